#include "pipeline/base/mapped_file.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "pipeline/base/env.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::base {
namespace {

std::string Text(const MappedFile& file) {
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

TEST(MappedFile, ShowsTheFilesBytesWhateverIsAdvised) {
  const testing_support::TempFolder folder;
  std::string bytes(300'000, 'm');
  bytes[123'456] = 'n';
  ASSERT_TRUE(Env::Real().WriteFileDurably(folder.File("f"), bytes).ok());
  auto file = MappedFile::Open(folder.File("f"));
  ASSERT_TRUE(file.ok()) << file.status();
  for (Access access : {Access::kSequential, Access::kRandom, Access::kWillNeed, Access::kDontNeed}) {
    file->Advise(access);
    file->Advise(access, 5'000, 100'000);
    file->Advise(access, 299'999, ~uint64_t{0});
    file->Advise(access, 400'000, 1);
    EXPECT_EQ(Text(*file), bytes);
  }
}

TEST(MappedFile, MovesWithItsMapping) {
  const testing_support::TempFolder folder;
  ASSERT_TRUE(Env::Real().WriteFileDurably(folder.File("a"), "aaa").ok());
  ASSERT_TRUE(Env::Real().WriteFileDurably(folder.File("b"), "bb").ok());
  MappedFile first = *MappedFile::Open(folder.File("a"));
  MappedFile second = std::move(first);
  EXPECT_EQ(Text(second), "aaa");
  second = *MappedFile::Open(folder.File("b"));
  EXPECT_EQ(Text(second), "bb");
}

TEST(MappedFile, EmptyFilesMapToNothingAndOtherThingsAreRefused) {
  const testing_support::TempFolder folder;
  ASSERT_TRUE(Env::Real().WriteFileDurably(folder.File("empty"), "").ok());
  auto file = MappedFile::Open(folder.File("empty"));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->bytes().empty());
  file->Advise(Access::kWillNeed);
  EXPECT_TRUE(absl::IsNotFound(MappedFile::Open(folder.File("absent")).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(MappedFile::Open(folder.path()).status()));
}

}  // namespace
}  // namespace storyfarm::base
