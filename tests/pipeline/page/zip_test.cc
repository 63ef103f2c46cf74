#include "pipeline/page/zip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace storyfarm::page {
namespace {

class MemoryFile : public base::WritableFile {
 public:
  absl::Status Append(std::string_view more) override {
    bytes += more;
    return absl::OkStatus();
  }
  absl::Status WriteAt(uint64_t offset_bytes, std::string_view more) override {
    if (bytes.size() < offset_bytes + more.size()) bytes.resize(offset_bytes + more.size());
    bytes.replace(offset_bytes, more.size(), more);
    return absl::OkStatus();
  }
  absl::Status Sync() override { return absl::OkStatus(); }
  absl::Status Close() override { return absl::OkStatus(); }

  std::string bytes;
};

uint64_t Number(const std::string& bytes, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

TEST(Zip, TheDirectoryLeadsToEveryEntry) {
  MemoryFile file;
  ZipWriter zip(file);
  ASSERT_TRUE(zip.Add("a.txt", "hello").ok());
  ASSERT_TRUE(zip.Add("页/b", std::string(1000, 'x')).ok());
  ASSERT_TRUE(zip.Finish().ok());
  const std::string& bytes = file.bytes;
  const size_t end = bytes.size() - 22;
  ASSERT_EQ(Number(bytes, end, 4), 0x06054b50U);
  EXPECT_EQ(Number(bytes, end + 10, 2), 2U);
  size_t entry = Number(bytes, end + 16, 4);
  EXPECT_EQ(entry + Number(bytes, end + 12, 4), end);
  const std::vector<std::pair<std::string, std::string>> expected = {{"a.txt", "hello"},
                                                                     {"页/b", std::string(1000, 'x')}};
  for (const auto& [name, content] : expected) {
    ASSERT_EQ(Number(bytes, entry, 4), 0x02014b50U);
    EXPECT_EQ(Number(bytes, entry + 14, 2), 0x21U) << "1980-01-01";
    EXPECT_EQ(bytes.substr(entry + 46, name.size()), name);
    const size_t local = Number(bytes, entry + 42, 4);
    ASSERT_EQ(Number(bytes, local, 4), 0x04034b50U);
    EXPECT_EQ(Number(bytes, local + 14, 4), Number(bytes, entry + 16, 4)) << "both say one CRC";
    EXPECT_EQ(bytes.substr(local + 30 + name.size(), content.size()), content);
    entry += 46 + name.size();
  }
  EXPECT_EQ(Number(bytes, Number(bytes, end + 16, 4) + 16, 4), 0x3610a686U) << "CRC-32 of 'hello'";
}

TEST(Zip, NamesThatDoNotFitAreRefused) {
  MemoryFile file;
  ZipWriter zip(file);
  EXPECT_FALSE(zip.Add("", "x").ok());
  EXPECT_FALSE(zip.Add(std::string(70'000, 'n'), "x").ok());
}

}  // namespace
}  // namespace storyfarm::page
