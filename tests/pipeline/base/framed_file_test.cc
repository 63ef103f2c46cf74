#include "pipeline/base/framed_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/temp_folder.h"

namespace storyfarm::base {
namespace {

// The messages of a file, or how reading them ended.
absl::StatusOr<std::vector<std::string>> ReadAll(const std::string& path) {
  auto file = FramedFileReader::Open(Env::Real(), path);
  if (!file.ok()) return file.status();
  std::vector<std::string> messages;
  for (;;) {
    auto next = (*file)->Next();
    if (!next.ok()) return next.status();
    if (!next->has_value()) return messages;
    messages.push_back(**next);
  }
}

TEST(FramedFile, GivesBackWhatWasWrittenAndTheDigestBeforeTheLast) {
  testing_support::TempFolder folder;
  const std::vector<std::string> messages = {"one", "", std::string(300'000, 'x'), std::string("\0\n\xff", 3)};
  auto writer = FramedFileWriter::Create(Env::Real(), folder.File("f"));
  ASSERT_TRUE(writer.ok());
  for (const std::string& message : messages) ASSERT_TRUE((*writer)->Append(message).ok());
  EXPECT_EQ((*writer)->messages(), 4u);
  const Digest digest = (*writer)->Finish();
  ASSERT_TRUE((*writer)->Append("end").ok());
  ASSERT_TRUE((*writer)->Close().ok());

  auto reader = FramedFileReader::Open(Env::Real(), folder.File("f"));
  ASSERT_TRUE(reader.ok());
  for (const std::string& message : messages) EXPECT_EQ((*reader)->Next()->value(), message);
  EXPECT_EQ((*reader)->Next()->value(), "end");
  EXPECT_EQ((*reader)->BeforeLast(), digest);
  EXPECT_FALSE((*reader)->Next()->has_value());
}

TEST(FramedFile, OneThatWasCutAnywhereInsideAMessageIsDataLoss) {
  testing_support::TempFolder folder;
  const std::string path = folder.File("f");
  for (uint64_t cut = 1; cut <= 17; ++cut) {
    auto writer = FramedFileWriter::Create(Env::Real(), path);
    ASSERT_TRUE((*writer)->Append("first").ok());  // 9 bytes with its length
    ASSERT_TRUE((*writer)->Append("second").ok());
    ASSERT_TRUE((*writer)->Close().ok());
    ASSERT_EQ(std::filesystem::file_size(path), 19u);
    std::filesystem::resize_file(path, 19 - cut);
    const auto read = ReadAll(path);
    if (cut == 10) {
      EXPECT_EQ(read->size(), 1u) << "it ends between two messages: only what is in them can tell";
    } else {
      EXPECT_TRUE(absl::IsDataLoss(read.status())) << cut;
    }
  }
}

}  // namespace
}  // namespace storyfarm::base
