#include "pipeline/page/png.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace storyfarm::page {
namespace {

constexpr int kBitDepth = 8;
constexpr size_t kSignatureBytes = 8;
// Deflate's best (a match of 258 bytes in 2 bits): a file of n bytes can't hold more than this times n.
constexpr uint64_t kMaxDeflateRatio = 1032;

// Of 1 to 9, 6 is usual: a picture of 1024x1024 then takes seconds, with 2 a tenth of that and some 15 % more bytes.
constexpr int kCompressionLevel = 2;

// libpng reports errors by longjmp. Everything that lives across the jump is in one of these structs, outside of the
// functions that jump.
struct Failure {
  jmp_buf jump;
  std::string message;
};

[[noreturn]] void OnError(png_structp png, png_const_charp message) {
  auto* failure = static_cast<Failure*>(png_get_error_ptr(png));
  failure->message = message;
  longjmp(failure->jump, 1);
}
void OnWarning(png_structp, png_const_charp) {}

struct Writing {
  Failure failure;
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::string bytes;
  std::vector<png_text> texts;

  ~Writing() { png_destroy_write_struct(&png, &info); }
};

void AppendBytes(png_structp png, png_bytep data, size_t size) {
  static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<const char*>(data), size);
}
void FlushNothing(png_structp) {}

bool WriteFile(Writing& writing, const Picture& picture) {
  if (setjmp(writing.failure.jump) != 0) return false;
  png_set_write_fn(writing.png, &writing.bytes, AppendBytes, FlushNothing);
  png_set_IHDR(writing.png, writing.info, picture.width, picture.height, kBitDepth, PNG_COLOR_TYPE_RGB,
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_set_compression_level(writing.png, kCompressionLevel);
  png_set_text(writing.png, writing.info, writing.texts.data(), static_cast<int>(writing.texts.size()));
  png_write_info(writing.png, writing.info);
  const size_t stride = size_t{3} * picture.width;
  for (size_t y = 0; y < picture.height; ++y) {
    png_write_row(writing.png, reinterpret_cast<png_const_bytep>(picture.rgb.data() + y * stride));
  }
  png_write_end(writing.png, nullptr);
  return true;
}

struct Reading {
  Failure failure;
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::string_view rest;  // not read yet
  bool has_alpha = false;
  std::string pixels;  // RGB, or RGBA where has_alpha
  std::vector<png_bytep> rows;

  ~Reading() { png_destroy_read_struct(&png, &info, nullptr); }
};

void TakeBytes(png_structp png, png_bytep data, size_t size) {
  auto* reading = static_cast<Reading*>(png_get_io_ptr(png));
  if (reading->rest.size() < size) png_error(png, "the file ends too early");
  std::memcpy(data, reading->rest.data(), size);
  reading->rest.remove_prefix(size);
}

// Up to the first pixel.
bool ReadInfo(Reading& reading) {
  if (setjmp(reading.failure.jump) != 0) return false;
  png_set_read_fn(reading.png, &reading, TakeBytes);
  png_set_user_limits(reading.png, kMaxPngEdgePixels, kMaxPngEdgePixels);
  png_set_chunk_malloc_max(reading.png, kMaxPngTextBytes);
  png_read_info(reading.png, reading.info);
  return true;
}

bool ReadPixels(Reading& reading) {
  if (setjmp(reading.failure.jump) != 0) return false;
  png_set_expand(reading.png);  // palettes to RGB, grey to 8 bits, tRNS to alpha
  png_set_scale_16(reading.png);
  png_set_gray_to_rgb(reading.png);
  png_set_interlace_handling(reading.png);
  png_read_update_info(reading.png, reading.info);
  reading.has_alpha = png_get_channels(reading.png, reading.info) == 4;
  const size_t height = png_get_image_height(reading.png, reading.info);
  const size_t stride = png_get_rowbytes(reading.png, reading.info);
  reading.pixels.assign(stride * height, '\0');
  reading.rows.resize(height);
  for (size_t y = 0; y < height; ++y) {
    reading.rows[y] = reinterpret_cast<png_bytep>(reading.pixels.data() + y * stride);
  }
  png_read_image(reading.png, reading.rows.data());
  return true;
}

bool ReadEnd(Reading& reading) {
  if (setjmp(reading.failure.jump) != 0) return false;
  png_read_end(reading.png, reading.info);
  return true;
}

absl::Status Damaged(const Reading& reading) {
  return absl::InvalidArgumentError(absl::StrCat("the PNG is damaged or too large: ", reading.failure.message));
}

absl::Status StartReading(std::string_view bytes, Reading& reading) {
  if (bytes.size() < kSignatureBytes ||
      png_sig_cmp(reinterpret_cast<png_const_bytep>(bytes.data()), 0, kSignatureBytes) != 0) {
    return absl::InvalidArgumentError("this is no PNG file");
  }
  reading.rest = bytes;
  reading.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reading.failure, OnError, OnWarning);
  reading.info = reading.png == nullptr ? nullptr : png_create_info_struct(reading.png);
  if (reading.info == nullptr) return absl::ResourceExhaustedError("no memory for reading a PNG");
  if (!ReadInfo(reading)) return Damaged(reading);
  const uint64_t pixels =
      uint64_t{png_get_image_width(reading.png, reading.info)} * png_get_image_height(reading.png, reading.info);
  if (pixels > kMaxPngPixels) {
    return absl::InvalidArgumentError(
        absl::StrCat("the PNG has ", pixels, " pixels; at most ", kMaxPngPixels, " are read"));
  }
  const uint64_t raw_bytes =
      uint64_t{png_get_rowbytes(reading.png, reading.info)} * png_get_image_height(reading.png, reading.info);
  if (raw_bytes > kMaxDeflateRatio * bytes.size()) {
    return absl::InvalidArgumentError("the PNG claims more pixels than its bytes can hold");
  }
  return absl::OkStatus();
}

// Transparency laid on white.
std::string FlattenAlpha(const std::string& rgba) {
  std::string rgb;
  rgb.reserve(rgba.size() / 4 * 3);
  for (size_t i = 0; i + 3 < rgba.size(); i += 4) {
    const int alpha = static_cast<unsigned char>(rgba[i + 3]);
    for (size_t c = 0; c < 3; ++c) {
      const int value = static_cast<unsigned char>(rgba[i + c]);
      rgb.push_back(static_cast<char>((value * alpha + 255 * (255 - alpha) + 127) / 255));
    }
  }
  return rgb;
}

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::string Latin1ToUtf8(std::string_view text) {
  std::string utf8;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      utf8.push_back(c);
    } else {
      utf8.push_back(static_cast<char>(0xC0 | byte >> 6));
      utf8.push_back(static_cast<char>(0x80 | (byte & 0x3F)));
    }
  }
  return utf8;
}

// PNG specification, 11.3.4.2: printable Latin-1, no blank at either end or twice in a row; here ASCII only.
bool IsKeyword(std::string_view keyword) {
  if (keyword.empty() || keyword.size() > 79 || keyword.front() == ' ' || keyword.back() == ' ') return false;
  return keyword.find("  ") == std::string_view::npos &&
         std::all_of(keyword.begin(), keyword.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
}

}  // namespace

absl::StatusOr<std::string> EncodePng(const Picture& picture, const std::vector<PngText>& texts) {
  const uint64_t pixels = uint64_t{picture.width} * picture.height;
  if (pixels == 0 || pixels > kMaxPngPixels || std::max(picture.width, picture.height) > kMaxPngEdgePixels ||
      picture.rgb.size() != 3 * pixels) {
    return absl::InvalidArgumentError(absl::StrCat("a picture of ", picture.width, " x ", picture.height, " pixels in ",
                                                   picture.rgb.size(), " bytes cannot be written as PNG"));
  }
  Writing writing;
  for (const PngText& text : texts) {
    if (!IsKeyword(text.keyword) || text.text.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", text.keyword, "' is no keyword of a PNG text, or its text has NULs"));
    }
    png_text& chunk = writing.texts.emplace_back();
    chunk = {};
    chunk.compression = IsAscii(text.text) ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
    // libpng copies both.
    chunk.key = const_cast<char*>(text.keyword.c_str());
    chunk.text = const_cast<char*>(text.text.c_str());
  }
  writing.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &writing.failure, OnError, OnWarning);
  writing.info = writing.png == nullptr ? nullptr : png_create_info_struct(writing.png);
  if (writing.info == nullptr) return absl::ResourceExhaustedError("no memory for writing a PNG");
  if (!WriteFile(writing, picture)) return absl::InternalError(absl::StrCat("libpng: ", writing.failure.message));
  return std::move(writing.bytes);
}

absl::StatusOr<Picture> DecodePng(std::string_view bytes) {
  Reading reading;
  if (absl::Status started = StartReading(bytes, reading); !started.ok()) return started;
  if (!ReadPixels(reading)) return Damaged(reading);
  Picture picture;
  picture.width = png_get_image_width(reading.png, reading.info);
  picture.height = png_get_image_height(reading.png, reading.info);
  picture.rgb = reading.has_alpha ? FlattenAlpha(reading.pixels) : std::move(reading.pixels);
  return picture;
}

absl::StatusOr<std::vector<PngText>> ReadPngTexts(std::string_view bytes) {
  Reading reading;
  if (absl::Status started = StartReading(bytes, reading); !started.ok()) return started;
  // Texts may follow the pixels, so all of the file is read.
  if (!ReadPixels(reading) || !ReadEnd(reading)) return Damaged(reading);
  png_textp chunks = nullptr;
  const int count = png_get_text(reading.png, reading.info, &chunks, nullptr);
  std::vector<PngText> texts;
  size_t total_bytes = 0;
  for (int i = 0; i < count; ++i) {
    const bool international = chunks[i].compression >= PNG_ITXT_COMPRESSION_NONE;
    const std::string_view text(chunks[i].text, international ? chunks[i].itxt_length : chunks[i].text_length);
    total_bytes += text.size();
    if (total_bytes > kMaxPngTextBytes) {
      return absl::InvalidArgumentError(absl::StrCat("the PNG's texts have over ", kMaxPngTextBytes, " bytes"));
    }
    texts.push_back({chunks[i].key, international ? std::string(text) : Latin1ToUtf8(text)});
  }
  return texts;
}

absl::StatusOr<PngSize> ReadPngSize(std::string_view bytes) {
  Reading reading;
  if (absl::Status started = StartReading(bytes, reading); !started.ok()) return started;
  return PngSize{png_get_image_width(reading.png, reading.info), png_get_image_height(reading.png, reading.info)};
}

}  // namespace storyfarm::page
