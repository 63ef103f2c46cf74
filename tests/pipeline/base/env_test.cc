// One contract for the machine's own Env and for one with switches to break it, and what breaking does.
#include "pipeline/base/env.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "tests/support/faulty_env.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::base {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class EnvContract : public testing::TestWithParam<bool> {
 protected:
  EnvContract() : faulty_(Env::Real()), env_(GetParam() ? static_cast<Env&>(faulty_) : Env::Real()) {}
  testing_support::TempFolder folder_;
  testing_support::FaultyEnv faulty_;
  Env& env_;
};
INSTANTIATE_TEST_SUITE_P(Envs, EnvContract, testing::Values(false, true),
                         [](const auto& info) { return info.param ? "Faulty" : "Real"; });

TEST_P(EnvContract, WhatIsWrittenDurablyIsReadBackAndReplacedWhole) {
  const std::string path = folder_.File("f");
  ASSERT_TRUE(env_.WriteFileDurably(path, std::string_view("one\0two", 7)).ok());
  EXPECT_EQ(*env_.ReadFile(path), std::string("one\0two", 7));
  ASSERT_TRUE(env_.WriteFileDurably(path, "").ok());
  EXPECT_EQ(*env_.ReadFile(path), "");
  EXPECT_THAT(*env_.List(folder_.path()), ElementsAre("f")) << "nothing temporary stays";
}

TEST_P(EnvContract, AppendingGoesOnAtTheEnd) {
  const std::string path = folder_.File("log");
  ASSERT_TRUE(env_.AppendDurably(path, "a").ok());
  ASSERT_TRUE(env_.AppendDurably(path, "b").ok());
  EXPECT_EQ(*env_.ReadFile(path), "ab");
}

TEST_P(EnvContract, ReadingAtAnOffsetStopsAtTheEnd) {
  const std::string path = folder_.File("f");
  ASSERT_TRUE(env_.WriteFileDurably(path, "0123456789").ok());
  auto file = env_.OpenForReading(path);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ((*file)->SizeBytes(), 10u);
  char buffer[8];
  EXPECT_EQ(*(*file)->ReadAt(6, buffer, sizeof buffer), 4u);
  EXPECT_EQ(std::string(buffer, 4), "6789");
  EXPECT_EQ(*(*file)->ReadAt(100, buffer, sizeof buffer), 0u);
}

TEST_P(EnvContract, ErrorsTellPathAndKind) {
  const std::string absent = folder_.File("absent");
  EXPECT_TRUE(absl::IsNotFound(env_.ReadFile(absent).status()));
  EXPECT_THAT(std::string(env_.ReadFile(absent).status().message()), AllOf(HasSubstr(absent), HasSubstr("not exist")));
  EXPECT_TRUE(absl::IsNotFound(env_.Stat(absent).status()));
  EXPECT_TRUE(absl::IsNotFound(env_.Remove(absent)));
  EXPECT_TRUE(absl::IsNotFound(env_.Rename(absent, folder_.File("x"))));
  EXPECT_TRUE(absl::IsNotFound(env_.List(absent).status()));
  EXPECT_TRUE(absl::IsNotFound(env_.WriteFileDurably(absent + "/f", "x")));
  EXPECT_TRUE(absl::IsFailedPrecondition(env_.ReadFile(folder_.path()).status()));
  ASSERT_TRUE(env_.WriteFileDurably(absent, "x").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(env_.ReadFile(absent + "/below").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(env_.CreateFolders(absent + "/below")));
  EXPECT_TRUE(absl::IsFailedPrecondition(env_.Remove(folder_.path()))) << "it is not empty";
  EXPECT_TRUE(absl::IsInvalidArgument(env_.WriteFileDurably(folder_.File(std::string(5000, 'n')), "x")));
}

TEST_P(EnvContract, TooLargeAFileIsNotReadWhole) {
  const std::string path = folder_.File("f");
  ASSERT_TRUE(env_.WriteFileDurably(path, "12345").ok());
  EXPECT_TRUE(env_.ReadFile(path, 5).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(env_.ReadFile(path, 4).status()));
}

TEST_P(EnvContract, FoldersAreMadeListedAndRemovedWithAllThatIsInThem) {
  const std::string deep = folder_.File("a/b/c");
  ASSERT_TRUE(env_.CreateFolders(deep).ok());
  ASSERT_TRUE(env_.CreateFolders(deep).ok()) << "again";
  EXPECT_TRUE(env_.Stat(deep)->is_folder);
  struct stat info {};
  ASSERT_EQ(::stat(deep.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u) << "its owner's alone";
  ASSERT_TRUE(env_.WriteFileDurably(deep + "/z", "1").ok());
  ASSERT_TRUE(env_.WriteFileDurably(deep + "/y", "2").ok());
  EXPECT_THAT(*env_.List(deep), ElementsAre("y", "z"));
  // A link is removed, and what it leads to stays.
  ASSERT_TRUE(env_.WriteFileDurably(folder_.File("kept"), "3").ok());
  ASSERT_EQ(::symlink(folder_.path().c_str(), (deep + "/link").c_str()), 0);
  ASSERT_TRUE(env_.RemoveTree(folder_.File("a")).ok());
  EXPECT_THAT(*env_.List(folder_.path()), ElementsAre("kept"));
  EXPECT_TRUE(env_.RemoveTree(folder_.File("a")).ok()) << "again";
}

TEST_P(EnvContract, ModificationTimesAreKeptToTheMillisecond) {
  const std::string path = folder_.File("f");
  ASSERT_TRUE(env_.WriteFileDurably(path, "x").ok());
  ASSERT_TRUE(env_.SetModified(path, 1'700'000'000'123).ok());
  EXPECT_EQ(env_.Stat(path)->modified_unix_ms, 1'700'000'000'123);
}

TEST_P(EnvContract, ALockIsHeldOnceAndFreeAfterwards) {
  const std::string path = folder_.File("lock");
  auto lock = env_.LockFile(path);
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_TRUE(absl::IsAlreadyExists(env_.LockFile(path).status()));
  lock->reset();
  EXPECT_TRUE(env_.LockFile(path).ok());
}

TEST_P(EnvContract, ClocksAndRandomBytesMove) {
  EXPECT_GT(env_.NowUnixMs(), 1'700'000'000'000);
  const int64_t before = env_.MonotonicMs();
  EXPECT_GE(env_.MonotonicMs(), before);
  EXPECT_EQ(env_.RandomBytes(1000).size(), 1000u);
  EXPECT_NE(env_.RandomBytes(16), env_.RandomBytes(16));
  EXPECT_GT(*env_.FreeBytes(folder_.path()), 0u);
}

class BrokenDisk : public testing::Test {
 protected:
  testing_support::TempFolder folder_;
  testing_support::FaultyEnv env_{Env::Real()};
};

TEST_F(BrokenDisk, AFullDiskLeavesTheOldFileAndSaysWhatToDo) {
  const std::string path = folder_.File("f");
  ASSERT_TRUE(env_.WriteFileDurably(path, "old").ok());
  env_.writable_bytes = 2;
  const absl::Status status = env_.WriteFileDurably(path, "newer");
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("disk is full"), HasSubstr("Free some space")));
  EXPECT_EQ(*env_.ReadFile(path), "old");
  EXPECT_THAT(*env_.List(folder_.path()), ElementsAre("f"));
}

TEST_F(BrokenDisk, AFailedSyncOrRenameLeavesTheOldFile) {
  const std::string path = folder_.File("f");
  ASSERT_TRUE(env_.WriteFileDurably(path, "old").ok());
  env_.fail_sync = true;
  EXPECT_TRUE(absl::IsDataLoss(env_.WriteFileDurably(path, "new")));
  env_.fail_sync = false;
  env_.fail_rename = true;
  EXPECT_TRUE(absl::IsDataLoss(env_.WriteFileDurably(path, "new")));
  EXPECT_EQ(*env_.ReadFile(path), "old");
  EXPECT_THAT(*env_.List(folder_.path()), ElementsAre("f"));
}

TEST_F(BrokenDisk, AFileIsNotCalledDurableBeforeItsFolderIs) {
  env_.fail_folder_sync = true;
  EXPECT_FALSE(env_.WriteFileDurably(folder_.File("f"), "x").ok());
  EXPECT_FALSE(env_.AppendDurably(folder_.File("log"), "x").ok());
  EXPECT_TRUE(env_.AppendDurably(folder_.File("log"), "x").ok()) << "the name was there before";
}

TEST(Paths, AreJoinedAndTakenApart) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
  EXPECT_EQ(JoinPath("/", "b"), "/b");
  EXPECT_EQ(FolderOf("a/b"), "a");
  EXPECT_EQ(FolderOf("b"), ".");
  EXPECT_EQ(FolderOf("/b"), "/");
  EXPECT_EQ(FileNameOf("a/b"), "b");
  EXPECT_EQ(FileNameOf("b"), "b");
}

}  // namespace
}  // namespace storyfarm::base
