#include "pipeline/model/pieces.h"

#include "pipeline/model/unicode.h"

namespace storyfarm::model {
namespace {

constexpr std::u32string_view kSpecials[] = {U"<|startoftext|>", U"<|endoftext|>"};
constexpr std::u32string_view kContractions[] = {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"};

// Which of `words` stands at the start of `text`; empty where none does.
template <size_t N>
std::u32string_view StartOf(std::u32string_view text, const std::u32string_view (&words)[N]) {
  for (const std::u32string_view word : words) {
    if (text.substr(0, word.size()) == word) return word;
  }
  return {};
}

}  // namespace

std::u32string NormalizePrompt(const std::u32string& text) {
  std::u32string collapsed;
  bool in_space = false;
  for (char32_t c : ComposeNfc(text)) {
    const bool space = ClassOf(c) == CharClass::kSpace;
    if (!space) collapsed.push_back(c);
    if (space && !in_space) collapsed.push_back(U' ');
    in_space = space;
  }
  return LowerCase(collapsed);
}

std::vector<Piece> SplitPieces(std::u32string_view text) {
  std::vector<Piece> pieces;
  for (size_t at = 0; at < text.size();) {
    if (const size_t size = StartOf(text.substr(at), kSpecials).size(); size > 0) {
      // The byte-level step splits it again by GPT-2's own pattern: "<|", the word, "|>".
      pieces.insert(pieces.end(), {{at, at + 2}, {at + 2, at + size - 2}, {at + size - 2, at + size}});
      at += size;
      continue;
    }
    if (const size_t size = StartOf(text.substr(at), kContractions).size(); size > 0) {
      pieces.push_back({at, at + size});
      at += size;
      continue;
    }
    const CharClass kind = ClassOf(text[at]);
    size_t end = at + 1;
    if (kind == CharClass::kLetter || kind == CharClass::kOther) {
      while (end < text.size() && ClassOf(text[end]) == kind) ++end;
    }
    if (kind != CharClass::kSpace) pieces.push_back({at, end});
    at = end;
  }
  return pieces;
}

}  // namespace storyfarm::model
