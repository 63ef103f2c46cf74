#include "pipeline/page/png.h"

#include <gmock/gmock.h>
#include <zlib.h>

#include "tests/pipeline/page/fixture.h"

namespace storyfarm::page {
namespace {

using ::testing::HasSubstr;

std::string BigEndian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(value >> shift));
  return bytes;
}

std::string Chunk(const std::string& type, const std::string& data) {
  const std::string body = type + data;
  return BigEndian(static_cast<uint32_t>(data.size())) + body +
         BigEndian(static_cast<uint32_t>(
             crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()))));
}

std::string Deflated(const std::string& raw) {
  std::string out(compressBound(raw.size()), '\0');
  uLongf size = out.size();
  EXPECT_EQ(
      compress(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(raw.data()), raw.size()),
      Z_OK);
  out.resize(size);
  return out;
}

// A PNG file made by hand from a header and filtered rows.
std::string HandMade(uint32_t width, uint32_t height, int depth, int color, const std::string& rows,
                     const std::string& before_rows = "") {
  std::string header = BigEndian(width) + BigEndian(height);
  header += {static_cast<char>(depth), static_cast<char>(color), 0, 0, 0};
  return "\x89PNG\r\n\x1a\n" + Chunk("IHDR", header) + before_rows + Chunk("IDAT", Deflated(rows)) + Chunk("IEND", "");
}

TEST(Png, KeepsEveryPixel) {
  Picture picture{7, 5, ""};
  for (int i = 0; i < 7 * 5 * 3; ++i) picture.rgb.push_back(static_cast<char>(i * 37));
  auto bytes = EncodePng(picture, {});
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  auto decoded = DecodePng(*bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->width, 7U);
  EXPECT_EQ(decoded->height, 5U);
  EXPECT_EQ(decoded->rgb, picture.rgb);
  EXPECT_EQ(ReadPngSize(*bytes)->height, 5U);
}

TEST(Png, KeepsTextsInOrderAndWritesAsciiAsOtherToolsExpectIt) {
  const std::vector<PngText> texts = {{"parameters", "a cat\nSteps: 20, Sampler: DDIM"}, {"Title", "晚安 café"}};
  auto bytes = EncodePng(Solid(2, 2, 1, 2, 3), texts);
  ASSERT_TRUE(bytes.ok());
  EXPECT_THAT(*bytes, HasSubstr(std::string("tEXtparameters\0a cat", 20)));
  EXPECT_THAT(*bytes, HasSubstr("iTXtTitle"));
  EXPECT_LT(bytes->find("tEXt"), bytes->find("IDAT"));
  auto read = ReadPngTexts(*bytes);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 2U);
  EXPECT_EQ((*read)[0].text, texts[0].text);
  EXPECT_EQ((*read)[1].keyword, "Title");
  EXPECT_EQ((*read)[1].text, texts[1].text);
}

TEST(Png, EqualInputGivesEqualBytes) {
  const Picture picture = Solid(33, 9, 4, 5, 6);
  EXPECT_EQ(*EncodePng(picture, {{"a", "b"}}), *EncodePng(picture, {{"a", "b"}}));
}

TEST(Png, ReadsGreySixteenBitsAndTransparency) {
  EXPECT_EQ(DecodePng(HandMade(2, 1, 8, 0, std::string("\0\x10\xF0", 3)))->rgb, "\x10\x10\x10\xF0\xF0\xF0");
  EXPECT_EQ(DecodePng(HandMade(1, 1, 16, 2, std::string("\0\xFF\xFF\x80\x80\x00\x00", 7)))->rgb,
            std::string("\xFF\x80\0", 3));
  // Half of black on white is grey; nothing of black is white.
  EXPECT_EQ(DecodePng(HandMade(2, 1, 8, 6, std::string("\0\0\0\0\x80\0\0\0\0", 9)))->rgb, "\x7F\x7F\x7F\xFF\xFF\xFF");
}

TEST(Png, EveryCutFileIsAnErrorAndNothingIsReadPastItsEnd) {
  const std::string bytes = *EncodePng(Solid(16, 16, 9, 8, 7), {{"k", "v"}});
  const size_t pixels_end = bytes.find("IEND") - 4;
  for (size_t size = 0; size < pixels_end; ++size) {
    const std::string cut = bytes.substr(0, size);
    EXPECT_EQ(DecodePng(cut).status().code(), absl::StatusCode::kInvalidArgument) << size;
  }
  EXPECT_TRUE(DecodePng(bytes).ok());
}

TEST(Png, ADamagedPixelChunkIsAnError) {
  std::string bytes = *EncodePng(Solid(16, 16, 9, 8, 7), {});
  bytes[bytes.find("IDAT") + 6] ^= 1;
  EXPECT_EQ(DecodePng(bytes).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Png, HostileSizesAreRefusedBeforeMemoryIsTaken) {
  for (const auto& [width, height] :
       {std::pair{0U, 1U}, {1U, 0U}, {20'000U, 1U}, {16'000U, 16'000U}, {0x7FFFFFFFU, 0x7FFFFFFFU}, {8'000U, 8'000U}}) {
    const std::string bytes = HandMade(width, height, 8, 2, "");
    EXPECT_EQ(DecodePng(bytes).status().code(), absl::StatusCode::kInvalidArgument) << width << " x " << height;
    EXPECT_EQ(ReadPngSize(bytes).status().code(), absl::StatusCode::kInvalidArgument) << width << " x " << height;
  }
}

TEST(Png, WhatCannotBeWrittenIsRefused) {
  EXPECT_FALSE(EncodePng(Picture{2, 2, "short"}, {}).ok());
  EXPECT_FALSE(EncodePng(Picture{}, {}).ok());
  EXPECT_FALSE(EncodePng(Solid(1, 1, 0, 0, 0), {{"", "x"}}).ok());
  EXPECT_FALSE(EncodePng(Solid(1, 1, 0, 0, 0), {{std::string(80, 'k'), "x"}}).ok());
}

}  // namespace
}  // namespace storyfarm::page
