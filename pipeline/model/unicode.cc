#include "pipeline/model/unicode.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <tuple>

namespace storyfarm::model {
namespace {

struct CodePointRange {
  uint32_t first, last;
};
struct LowerCaseRow {
  uint32_t from, to[2];  // second may be 0
};
struct DecompositionRow {
  uint32_t from, to[4];  // full canonical decomposition, ended by 0 where it is shorter
};
struct CompositionRow {
  uint32_t first, second, composed;
};
struct CombiningClassRow {
  uint32_t first, last, rank;
};
#include "pipeline/model/unicode_tables.inc"

// Hangul syllables compose by arithmetic (Unicode 15, section 3.12).
constexpr uint32_t kHangulS = 0xAC00, kHangulL = 0x1100, kHangulV = 0x1161, kHangulT = 0x11A7;
constexpr uint32_t kHangulLCount = 19, kHangulVCount = 21, kHangulTCount = 28;
constexpr uint32_t kHangulSCount = kHangulLCount * kHangulVCount * kHangulTCount;

// The row of a table sorted by its first member whose range may hold `c`.
template <typename Row, size_t N>
const Row* RowBefore(const Row (&table)[N], uint32_t c) {
  const Row* after = std::upper_bound(std::begin(table), std::end(table), c,
                                      [](uint32_t value, const Row& row) { return value < row.first; });
  return after == std::begin(table) ? nullptr : after - 1;
}

template <size_t N>
bool InRanges(const CodePointRange (&table)[N], uint32_t c) {
  const CodePointRange* row = RowBefore(table, c);
  return row != nullptr && c <= row->last;
}

template <typename Row, size_t N>
const Row* RowFrom(const Row (&table)[N], uint32_t c) {
  const Row* row = std::lower_bound(std::begin(table), std::end(table), c,
                                    [](const Row& r, uint32_t value) { return r.from < value; });
  return row != std::end(table) && row->from == c ? row : nullptr;
}

uint32_t CombiningClass(uint32_t c) {
  const CombiningClassRow* row = RowBefore(kCombiningClasses, c);
  return row != nullptr && c <= row->last ? row->rank : 0;
}

void AppendDecomposed(uint32_t c, std::u32string& text) {
  if (c >= kHangulS && c < kHangulS + kHangulSCount) {
    const uint32_t index = c - kHangulS;
    text.push_back(kHangulL + index / (kHangulVCount * kHangulTCount));
    text.push_back(kHangulV + index % (kHangulVCount * kHangulTCount) / kHangulTCount);
    if (index % kHangulTCount != 0) text.push_back(kHangulT + index % kHangulTCount);
    return;
  }
  const DecompositionRow* row = RowFrom(kDecompositions, c);
  if (row == nullptr) {
    text.push_back(c);
    return;
  }
  for (uint32_t part : row->to) {
    if (part != 0) text.push_back(part);
  }
}

// 0 where the two don't compose.
uint32_t Composed(uint32_t first, uint32_t second) {
  if (first >= kHangulL && first < kHangulL + kHangulLCount && second >= kHangulV &&
      second < kHangulV + kHangulVCount) {
    return kHangulS + ((first - kHangulL) * kHangulVCount + (second - kHangulV)) * kHangulTCount;
  }
  if (first >= kHangulS && first < kHangulS + kHangulSCount && (first - kHangulS) % kHangulTCount == 0 &&
      second > kHangulT && second < kHangulT + kHangulTCount) {
    return first + (second - kHangulT);
  }
  const auto key = std::make_tuple(first, second);
  const CompositionRow* row = std::lower_bound(
      std::begin(kCompositions), std::end(kCompositions), key,
      [](const CompositionRow& r, const auto& value) { return std::make_tuple(r.first, r.second) < value; });
  return row != std::end(kCompositions) && row->first == first && row->second == second ? row->composed : 0;
}

}  // namespace

CharClass ClassOf(char32_t c) {
  if (InRanges(kLetters, c)) return CharClass::kLetter;
  if (InRanges(kNumbers, c)) return CharClass::kNumber;
  return InRanges(kSpaces, c) ? CharClass::kSpace : CharClass::kOther;
}

std::u32string DecodeUtf8(std::string_view text) {
  constexpr char32_t kReplacement = 0xFFFD;
  std::u32string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const uint8_t lead = static_cast<uint8_t>(text[i++]);
    if (lead < 0x80) {
      decoded.push_back(lead);
      continue;
    }
    // Bounds of the second byte exclude overlong forms, surrogates and what lies above U+10FFFF (Unicode 15, table
    // 3-7).
    int more = 0;
    uint8_t low = 0x80, high = 0xBF;
    char32_t c = 0;
    if (lead >= 0xC2 && lead <= 0xDF) {
      more = 1;
      c = lead & 0x1F;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      more = 2;
      c = lead & 0x0F;
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      more = 3;
      c = lead & 0x07;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    } else {
      decoded.push_back(kReplacement);
      continue;
    }
    for (; more > 0 && i < text.size(); --more) {
      const uint8_t byte = static_cast<uint8_t>(text[i]);
      if (byte < low || byte > high) break;
      c = c << 6 | (byte & 0x3F);
      low = 0x80;
      high = 0xBF;
      ++i;
    }
    decoded.push_back(more == 0 ? c : kReplacement);
  }
  return decoded;
}

void AppendUtf8(char32_t c, std::string& text) {
  if (c < 0x80) {
    text.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    text.push_back(static_cast<char>(0xC0 | c >> 6));
    text.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    text.push_back(static_cast<char>(0xE0 | c >> 12));
    text.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    text.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    text.push_back(static_cast<char>(0xF0 | c >> 18));
    text.push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    text.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    text.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

std::u32string ComposeNfc(const std::u32string& text) {
  std::u32string parts;
  parts.reserve(text.size());
  for (char32_t c : text) AppendDecomposed(c, parts);
  // Runs of marks in order of their classes.
  for (size_t begin = 0; begin < parts.size(); ++begin) {
    if (CombiningClass(parts[begin]) == 0) continue;
    size_t end = begin;
    while (end < parts.size() && CombiningClass(parts[end]) != 0) ++end;
    std::stable_sort(parts.begin() + static_cast<ptrdiff_t>(begin), parts.begin() + static_cast<ptrdiff_t>(end),
                     [](char32_t a, char32_t b) { return CombiningClass(a) < CombiningClass(b); });
    begin = end;
  }
  std::u32string composed;
  composed.reserve(parts.size());
  size_t starter = std::u32string::npos;  // in `composed`
  uint32_t last_class = 0;                // of what was kept after the starter
  for (char32_t c : parts) {
    const uint32_t combining = CombiningClass(c);
    const bool adjacent = starter != std::u32string::npos && starter + 1 == composed.size();
    // Blocked: something of the same or a higher class stands between it and the starter.
    if (starter != std::u32string::npos && (adjacent || (combining != 0 && last_class < combining))) {
      if (const uint32_t both = Composed(composed[starter], c); both != 0) {
        composed[starter] = both;
        continue;
      }
    }
    if (combining == 0) starter = composed.size();
    last_class = combining;
    composed.push_back(c);
  }
  return composed;
}

std::u32string LowerCase(const std::u32string& text) {
  std::u32string lower;
  lower.reserve(text.size());
  for (char32_t c : text) {
    const LowerCaseRow* row = RowFrom(kLowerCase, c);
    if (row == nullptr) {
      lower.push_back(c);
      continue;
    }
    lower.push_back(row->to[0]);
    if (row->to[1] != 0) lower.push_back(row->to[1]);
  }
  return lower;
}

}  // namespace storyfarm::model
