// PNG files of 8-bit RGB with text, as bytes.
#ifndef STORYFARM_PIPELINE_PAGE_PNG_H_
#define STORYFARM_PIPELINE_PAGE_PNG_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace storyfarm::page {

// A picture: rows from the top, three bytes a pixel, no padding. rgb.size() == 3 * width * height.
struct Picture {
  uint32_t width = 0;
  uint32_t height = 0;
  std::string rgb;
};

// One text chunk, such as "parameters", where Stable Diffusion tools keep a picture's generation settings.
struct PngText {
  std::string keyword;  // 1 to 79 printable ASCII characters
  std::string text;     // UTF-8
};

// Bounds on files that are read. A PNG of a few KB may claim any size: the claim is checked before memory is taken.
inline constexpr uint32_t kMaxPngEdgePixels = 16'384;
inline constexpr uint64_t kMaxPngPixels = uint64_t{64} << 20;  // 192 MiB of RGB
inline constexpr size_t kMaxPngTextBytes = size_t{4} << 20;    // all text chunks of a file together

// A PNG file. Text that is ASCII is written as tEXt, other text as iTXt, both before the pixels. Equal input gives
// equal bytes: no time is written. INVALID_ARGUMENT where the picture's size and bytes disagree or a keyword is not
// allowed.
absl::StatusOr<std::string> EncodePng(const Picture& picture, const std::vector<PngText>& texts);

// Reads any PNG as RGB: grey and palettes are expanded, 16 bits cut to 8, transparency laid on white.
// INVALID_ARGUMENT: not a PNG, damaged, or over the bounds.
absl::StatusOr<Picture> DecodePng(std::string_view bytes);

// The texts of a PNG, in order; both kinds of chunk, as UTF-8. Errors as in DecodePng.
absl::StatusOr<std::vector<PngText>> ReadPngTexts(std::string_view bytes);

// Width and height of a PNG from its header alone. Errors as in DecodePng.
struct PngSize {
  uint32_t width = 0;
  uint32_t height = 0;
};
absl::StatusOr<PngSize> ReadPngSize(std::string_view bytes);

}  // namespace storyfarm::page

#endif  // STORYFARM_PIPELINE_PAGE_PNG_H_
