#include "tools/storyctl/text_columns.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace storyfarm::storyctl {
namespace {

struct Range {
  uint32_t first, last;
};

// Blocks of which nearly every character is wide or full width (EastAsianWidth.txt), and what emoji are drawn as.
constexpr std::array<Range, 11> kWide{{{0x1100, 0x115F},
                                       {0x2E80, 0x303E},
                                       {0x3041, 0xA4CF},
                                       {0xA960, 0xA97C},
                                       {0xAC00, 0xD7A3},
                                       {0xF900, 0xFAFF},
                                       {0xFE30, 0xFE6F},
                                       {0xFF01, 0xFF60},
                                       {0xFFE0, 0xFFE6},
                                       {0x1F300, 0x1FAFF},
                                       {0x20000, 0x3FFFD}}};
// Combining marks, joiners and variation selectors.
constexpr std::array<Range, 6> kNone{
    {{0x0300, 0x036F}, {0x1AB0, 0x1AFF}, {0x200B, 0x200F}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}}};

template <size_t kCount>
bool In(const std::array<Range, kCount>& ranges, uint32_t point) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [point](const Range& range) { return point >= range.first && point <= range.last; });
}

int ColumnsOf(uint32_t point) {
  if (In(kNone, point)) return 0;
  return In(kWide, point) ? 2 : 1;
}

struct Point {
  uint32_t value = 0;
  size_t bytes = 0;
};

// The code point at a position; bytes that are no UTF-8 count as one each.
Point At(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  const size_t bytes = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
  if (bytes == 1 || at + bytes > text.size()) return {first, 1};
  uint32_t value = first & (0xFFu >> (bytes + 1));
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return {first, 1};
    value = value << 6 | (byte(at + i) & 0x3Fu);
  }
  return {value, bytes};
}

}  // namespace

int Columns(const std::string& text) {
  int columns = 0;
  for (size_t at = 0; at < text.size();) {
    const Point point = At(text, at);
    columns += ColumnsOf(point.value);
    at += point.bytes;
  }
  return columns;
}

std::string Fit(const std::string& text, int columns) {
  if (columns < 1) return "";
  if (Columns(text) <= columns) return text;
  int taken = 0;
  size_t at = 0;
  while (at < text.size()) {
    const Point point = At(text, at);
    if (taken + ColumnsOf(point.value) > columns - 1) break;
    taken += ColumnsOf(point.value);
    at += point.bytes;
  }
  return text.substr(0, at) + "…";
}

std::string Pad(const std::string& text, int columns) {
  std::string padded = Fit(text, columns);
  padded.append(static_cast<size_t>(std::max(0, columns - Columns(padded))), ' ');
  return padded;
}

std::vector<std::string> Wrap(const std::string& text, int columns) {
  std::vector<std::string> lines;
  std::string line;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = Fit(text.substr(at, end - at), columns);
    if (!line.empty() && Columns(line) + 1 + Columns(word) > columns) {
      lines.push_back(std::move(line));
      line.clear();
    }
    line += line.empty() ? word : " " + word;
    at = end + 1;
  }
  lines.push_back(std::move(line));
  return lines;
}

std::string Ascii(const std::string& text) {
  constexpr uint32_t kEllipsis = 0x2026;
  std::string ascii;
  for (size_t at = 0; at < text.size();) {
    const Point point = At(text, at);
    if (point.value < 0x80) {
      ascii += text[at];
    } else {
      ascii.append(static_cast<size_t>(ColumnsOf(point.value)), point.value == kEllipsis ? '~' : '?');
    }
    at += point.bytes;
  }
  return ascii;
}

std::string Printable(const std::string& text) {
  std::string clean;
  for (size_t at = 0; at < text.size();) {
    const Point point = At(text, at);
    const bool control = point.value < 0x20 || (point.value >= 0x7F && point.value < 0xA0);
    clean += control ? " " : text.substr(at, point.bytes);
    at += point.bytes;
  }
  return clean;
}

}  // namespace storyfarm::storyctl
