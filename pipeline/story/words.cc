#include "pipeline/story/words.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "pipeline/base/edit_distance.h"

namespace storyfarm::story {
namespace {

constexpr size_t kMaxComparedBytes = 64;  // the distance is quadratic; names are not longer
constexpr std::string_view kSpace = " \t\n\r\f\v";

std::string Lower(std::string_view text) {
  std::string lower(text);
  absl::AsciiStrToLower(&lower);
  return lower;
}

}  // namespace

size_t Utf8Length(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                        : lead >= 0xE0 && lead <= 0xEF ? 3
                        : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                       : 0;
  if (length == 0 || text.size() < length) return 0;
  // The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF (RFC 3629, section 4).
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xBF) return 0;
  }
  return length;
}

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

size_t ByteOfCharacter(std::string_view text, size_t index) {
  size_t byte = 0;
  for (; index > 0 && byte < text.size(); --index) byte += std::max<size_t>(Utf8Length(text.substr(byte)), 1);
  return std::min(byte, text.size());
}

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::string CollapseSpace(std::string_view text) {
  std::string collapsed;
  collapsed.reserve(text.size());
  for (const char c : Trim(text)) {
    const bool space = kSpace.find(c) != std::string_view::npos;
    if (!space) {
      collapsed.push_back(c);
    } else if (collapsed.back() != ' ') {
      collapsed.push_back(' ');
    }
  }
  return collapsed;
}

std::string CollapseLines(std::string_view text) {
  std::vector<std::string> lines;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(std::string(text), '\n'))) {
    if (std::string line = CollapseSpace(part); !line.empty()) lines.push_back(std::move(line));
  }
  return absl::StrJoin(lines, "\n");
}

std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates) {
  if (word.size() > kMaxComparedBytes) return "";
  const std::string lower = Lower(word);
  size_t best = word.size() / 3 + 2;  // a typo, not another word
  const std::string* nearest = nullptr;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kMaxComparedBytes) continue;
    const size_t distance = base::EditDistance<char>(lower, Lower(candidate), best);
    if (distance < best && distance < candidate.size()) {
      best = distance;
      nearest = &candidate;
    }
  }
  return nearest == nullptr ? "" : " (did you mean '" + *nearest + "'?)";
}

std::string Quote(std::string_view text, size_t max_characters) {
  const size_t end = ByteOfCharacter(text, max_characters);
  return "'" + std::string(text.substr(0, end)) + (end < text.size() ? "..." : "") + "'";
}

}  // namespace storyfarm::story
