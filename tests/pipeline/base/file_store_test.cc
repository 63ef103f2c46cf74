// Content-addressed files: only whole and durable ones are there, whatever breaks.
#include "pipeline/base/file_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/faulty_env.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::base {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class FileStoreTest : public testing::Test {
 protected:
  FileStoreTest() { Reopen(); }

  void Reopen(FileStoreOptions options = {}) {
    store_.reset();
    auto store = FileStore::Open(env_, folder_.File("store"), options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  static FileStoreOptions Budget(uint64_t bytes) {
    FileStoreOptions options;
    options.budget_bytes = bytes;
    return options;
  }
  std::unique_ptr<StoreWriter> Writer(const std::string& whole, const std::string& upload_id = "u") {
    auto writer = store_->OpenWriter(Digest::Of(whole), whole.size(), upload_id);
    EXPECT_TRUE(writer.ok()) << writer.status();
    return writer.ok() ? *std::move(writer) : nullptr;
  }
  std::string Content(const std::string& bytes) {
    auto path = store_->Path(Digest::Of(bytes));
    return path.ok() ? *env_.ReadFile(*path) : std::string(path.status().message());
  }
  std::vector<std::string> Partials() { return *env_.List(folder_.File("store/partial")); }

  testing_support::TempFolder folder_;
  testing_support::FaultyEnv env_{Env::Real()};
  std::unique_ptr<FileStore> store_;
};

TEST_F(FileStoreTest, AnUploadAppearsWholeAndStaysAcrossARestart) {
  const std::string bytes = "some bytes";
  auto writer = Writer(bytes);
  ASSERT_TRUE(writer->Append("some ").ok());
  EXPECT_FALSE(store_->Has(Digest::Of(bytes)));
  ASSERT_TRUE(writer->Append("bytes").ok());
  ASSERT_TRUE(writer->Commit().ok());
  EXPECT_EQ(Content(bytes), bytes);
  Reopen();
  EXPECT_EQ(Content(bytes), bytes);
  EXPECT_EQ(*store_->SizeBytes(Digest::Of(bytes)), bytes.size());
  EXPECT_EQ(store_->used_bytes(), bytes.size());
  EXPECT_THAT(Partials(), IsEmpty());
}

TEST_F(FileStoreTest, AnEmptyFileIsAFile) {
  ASSERT_TRUE(Writer("")->Commit().ok());
  EXPECT_TRUE(store_->Has(Digest::Of("")));
  EXPECT_EQ(Content(""), "");
}

TEST_F(FileStoreTest, ABrokenUploadIsResumedWithWhatWasKept) {
  const std::string bytes(3'000'000, 'r');
  ASSERT_TRUE(Writer(bytes)->Append(bytes.substr(0, 2'000'000)).ok());
  Reopen();
  EXPECT_EQ(*store_->KeptBytes(Digest::Of(bytes), "u"), 2'000'000u);
  EXPECT_EQ(*store_->KeptBytes(Digest::Of(bytes), "other"), 0u);
  auto writer = Writer(bytes);
  EXPECT_EQ(writer->offset_bytes(), 2'000'000u);
  ASSERT_TRUE(writer->Append(bytes.substr(2'000'000)).ok());
  ASSERT_TRUE(writer->Commit().ok());
  EXPECT_EQ(Content(bytes), bytes);
}

TEST_F(FileStoreTest, DamagedBytesAreRefusedAndNothingIsKept) {
  auto writer = Writer("right");
  ASSERT_TRUE(writer->Append("wrong").ok());
  const absl::Status status = writer->Commit();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_FALSE(store_->Has(Digest::Of("right")));
  EXPECT_FALSE(store_->Has(Digest::Of("wrong")));
  EXPECT_THAT(Partials(), IsEmpty());
}

TEST_F(FileStoreTest, ADamagedPartialFileIsFoundOut) {
  ASSERT_TRUE(Writer("right")->Append("rig").ok());
  ASSERT_TRUE(env_.WriteFileDurably(folder_.File("store/partial/") + Digest::Of("right").Hex() + ".u", "bad").ok());
  auto writer = Writer("right");
  ASSERT_TRUE(writer->Append("ht").ok());
  EXPECT_TRUE(absl::IsDataLoss(writer->Commit()));
  // More than the whole: not its bytes, so it starts over.
  ASSERT_TRUE(
      env_.WriteFileDurably(folder_.File("store/partial/") + Digest::Of("right").Hex() + ".u", "too long").ok());
  auto again = Writer("right");
  EXPECT_EQ(again->offset_bytes(), 0u);
  ASSERT_TRUE(again->Append("right").ok());
  EXPECT_TRUE(again->Commit().ok());
}

TEST_F(FileStoreTest, TooFewAndTooManyBytesAreRefused) {
  auto writer = Writer("12345");
  ASSERT_TRUE(writer->Append("123").ok());
  EXPECT_TRUE(absl::IsOutOfRange(writer->Append("456")));
  EXPECT_TRUE(absl::IsFailedPrecondition(writer->Commit()));
  EXPECT_EQ(*store_->KeptBytes(Digest::Of("12345"), "u"), 3u);
}

TEST_F(FileStoreTest, UploadIdsCantLeaveTheFolder) {
  for (const char* bad : {"", "..", "a/b", "A", "a.b", "a b"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(store_->OpenWriter(Digest::Of("x"), 1, bad).status())) << bad;
    EXPECT_TRUE(absl::IsInvalidArgument(store_->KeptBytes(Digest::Of("x"), bad).status())) << bad;
  }
  EXPECT_TRUE(IsUploadId(std::string(64, 'a')));
  EXPECT_FALSE(IsUploadId(std::string(65, 'a')));
}

TEST_F(FileStoreTest, OneUploadHasOneWriterAtATime) {
  auto writer = Writer("12345");
  EXPECT_TRUE(absl::IsAborted(store_->OpenWriter(Digest::Of("12345"), 5, "u").status()));
  EXPECT_TRUE(store_->OpenWriter(Digest::Of("12345"), 5, "v").ok());
  writer.reset();
  EXPECT_TRUE(store_->OpenWriter(Digest::Of("12345"), 5, "u").ok());
}

TEST_F(FileStoreTest, TwoWritersOfOneDigestBothSucceed) {
  const std::string bytes(100'000, 't');
  std::vector<std::thread> threads;
  std::vector<absl::Status> results(8, absl::UnknownError("not run"));
  for (size_t i = 0; i < results.size(); ++i) {
    threads.emplace_back([&, i] {
      auto writer = store_->OpenWriter(Digest::Of(bytes), bytes.size(), "w-" + std::to_string(i));
      if (!writer.ok()) return;
      for (size_t at = 0; at < bytes.size(); at += 10'000) {
        if (!(*writer)->Append(bytes.substr(at, 10'000)).ok()) return;
      }
      results[i] = (*writer)->Commit();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : results) EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(Content(bytes), bytes);
  EXPECT_EQ(store_->used_bytes(), bytes.size());
}

TEST_F(FileStoreTest, AFullDiskKeepsWhatWasWrittenForLater) {
  const std::string bytes = "0123456789";
  auto writer = Writer(bytes);
  env_.writable_bytes = 6;
  ASSERT_TRUE(writer->Append("01234").ok());
  EXPECT_TRUE(absl::IsResourceExhausted(writer->Append("56789")));
  EXPECT_FALSE(writer->Append("5").ok()) << "its hash no longer fits the file";
  EXPECT_FALSE(writer->Commit().ok());
  writer.reset();
  env_.writable_bytes = testing_support::FaultyEnv::kUnlimited;
  auto later = Writer(bytes);
  EXPECT_EQ(later->offset_bytes(), 6u) << "the short write counts";
  ASSERT_TRUE(later->Append("6789").ok());
  EXPECT_TRUE(later->Commit().ok());
  EXPECT_EQ(Content(bytes), bytes);
}

TEST_F(FileStoreTest, NothingCountsBeforeItIsDurable) {
  const std::string bytes = "durable?";
  for (std::atomic<bool>* fault : {&env_.fail_sync, &env_.fail_rename, &env_.fail_folder_sync}) {
    auto writer = Writer(bytes);
    ASSERT_TRUE(writer->Append(bytes.substr(writer->offset_bytes())).ok());
    *fault = true;
    EXPECT_FALSE(writer->Commit().ok());
    EXPECT_FALSE(store_->Put(bytes).ok());
    EXPECT_FALSE(store_->Has(Digest::Of(bytes)));
    *fault = false;
  }
  ASSERT_TRUE(store_->Put(bytes).ok());
  EXPECT_EQ(Content(bytes), bytes);
}

TEST_F(FileStoreTest, AFailedSyncThrowsThePartialFileAway) {
  auto writer = Writer("bytes");
  ASSERT_TRUE(writer->Append("bytes").ok());
  env_.fail_sync = true;
  EXPECT_FALSE(writer->Commit().ok());
  EXPECT_THAT(Partials(), IsEmpty()) << "a second sync of the same pages may lie";
}

TEST_F(FileStoreTest, AFileTakenAwayFromOutsideIsAbsent) {
  const StoredFile file = *store_->Put("gone");
  ASSERT_TRUE(env_.Remove(*store_->Path(file.digest)).ok());
  EXPECT_FALSE(store_->Has(file.digest));
  EXPECT_TRUE(absl::IsNotFound(store_->PinFile(file.digest).status()));
  EXPECT_EQ(store_->used_bytes(), 0u);
  EXPECT_TRUE(store_->Put("gone").ok());
  EXPECT_EQ(Content("gone"), "gone");
}

TEST_F(FileStoreTest, AFinishedFileIsMovedInAlsoFromAnotherDisk) {
  for (bool two_disks : {false, true}) {
    env_.two_disks = two_disks;
    const std::string bytes = two_disks ? "from afar" : "from here";
    ASSERT_TRUE(env_.CreateFolders(folder_.File("out")).ok());
    ASSERT_TRUE(env_.WriteFileDurably(folder_.File("out/f"), bytes).ok());
    const auto stored = store_->AdoptFile(folder_.File("out/f"));
    ASSERT_TRUE(stored.ok()) << stored.status();
    EXPECT_EQ(stored->digest, Digest::Of(bytes));
    EXPECT_EQ(stored->size_bytes, bytes.size());
    EXPECT_EQ(Content(bytes), bytes);
    EXPECT_FALSE(env_.Exists(folder_.File("out/f")));
    EXPECT_THAT(Partials(), IsEmpty());
  }
  EXPECT_TRUE(absl::IsNotFound(store_->AdoptFile(folder_.File("out/none")).status()));
}

TEST_F(FileStoreTest, TheBudgetEvictsWhatWasUsedLeastRecently) {
  env_.clock_ms = 1'000'000;
  Reopen(Budget(30));
  const auto put = [&](char c) {
    env_.clock_ms = env_.clock_ms + 100'000;
    ASSERT_TRUE(store_->Put(std::string(10, c)).ok());
  };
  const auto has = [&](char c) { return store_->Has(Digest::Of(std::string(10, c))); };
  put('a');
  put('b');
  put('c');
  env_.clock_ms = env_.clock_ms + 100'000;
  EXPECT_TRUE(store_->Path(Digest::Of(std::string(10, 'a'))).ok());  // used again
  put('d');
  EXPECT_TRUE(has('a') && has('c') && has('d'));
  EXPECT_FALSE(has('b'));
  Reopen(Budget(30));  // times of use survive
  put('e');
  EXPECT_FALSE(has('c'));
  EXPECT_TRUE(has('a'));
  EXPECT_EQ(store_->used_bytes(), 30u);
}

TEST_F(FileStoreTest, WhatIsPinnedStays) {
  Reopen(Budget(20));
  const StoredFile first = *store_->Put(std::string(10, 'a'));
  {
    auto pin = store_->PinFile(first.digest);
    ASSERT_TRUE(pin.ok());
    ASSERT_TRUE(store_->Put(std::string(10, 'b')).ok());
    ASSERT_TRUE(store_->Put(std::string(10, 'c')).ok());
    EXPECT_TRUE(store_->Has(first.digest));
    EXPECT_TRUE(absl::IsFailedPrecondition(store_->Remove(first.digest)));
    const auto too_much = store_->Put(std::string(15, 'd'));
    EXPECT_TRUE(absl::IsResourceExhausted(too_much.status())) << too_much.status();
    FilePin moved = *std::move(pin);
    EXPECT_EQ(*env_.ReadFile(moved.path()), std::string(10, 'a'));
  }
  EXPECT_TRUE(store_->Remove(first.digest).ok());
  EXPECT_FALSE(store_->Has(first.digest));
  EXPECT_TRUE(store_->Remove(first.digest).ok()) << "again";
}

TEST_F(FileStoreTest, UploadsUnderWayCountAgainstTheBudget) {
  Reopen(Budget(20));
  auto one = store_->OpenWriter(Digest::Of("1"), 15, "u");
  ASSERT_TRUE(one.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(store_->OpenWriter(Digest::Of("2"), 15, "u").status()));
  one->reset();
  EXPECT_TRUE(store_->OpenWriter(Digest::Of("2"), 15, "u").ok());
  EXPECT_THAT(std::string(store_->OpenWriter(Digest::Of("3"), 21, "u").status().message()),
              HasSubstr("Raise that limit"));
}

TEST_F(FileStoreTest, WritesStopBeforeTheDiskIsFull) {
  FileStoreOptions options;
  options.keep_free_bytes = 100;
  Reopen(options);
  env_.free_bytes = 110;
  EXPECT_TRUE(store_->Put("0123456789").ok());
  EXPECT_TRUE(absl::IsResourceExhausted(store_->Put("0123456789x").status()));
  EXPECT_EQ(store_->List().size(), 1u) << "without a budget nothing is removed";
}

TEST_F(FileStoreTest, OldPartialFilesAreRemovedAndFreshOnesKept) {
  ASSERT_TRUE(Writer("old", "old")->Append("o").ok());
  ASSERT_TRUE(Writer("new", "new")->Append("n").ok());
  const std::string old_path = folder_.File("store/partial/") + Digest::Of("old").Hex() + ".old";
  ASSERT_TRUE(env_.SetModified(old_path, env_.NowUnixMs() - FileStoreOptions().partial_lifetime_ms - 1000).ok());
  ASSERT_TRUE(env_.WriteFileDurably(folder_.File("store/partial/.own-7"), "left by a crash").ok());
  Reopen();
  EXPECT_EQ(Partials().size(), 1u);
  EXPECT_EQ(*store_->KeptBytes(Digest::Of("new"), "new"), 1u);
}

TEST_F(FileStoreTest, StrangeFilesInTheFolderAreLeftAlone) {
  const StoredFile file = *store_->Put("mine");
  ASSERT_TRUE(env_.WriteFileDurably(folder_.File("store/README"), "x").ok());
  ASSERT_TRUE(env_.WriteFileDurably(FolderOf(*store_->Path(file.digest)) + "/notes", "x").ok());
  Reopen();
  EXPECT_EQ(store_->List().size(), 1u);
  EXPECT_TRUE(env_.Exists(folder_.File("store/README")));
}

}  // namespace
}  // namespace storyfarm::base
