#include "pipeline/model/word_list.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/edit_distance.h"
#include "pipeline/model/pieces.h"
#include "pipeline/model/unicode.h"

namespace storyfarm::model {
namespace {

constexpr size_t kMaxDistance = 2;            // a typo, not another word
constexpr char32_t kFirstEastAsian = 0x2E80;  // CJK Radicals Supplement; Han, Kana and Hangul syllables follow

std::string ToUtf8(std::u32string_view text) {
  std::string utf8;
  for (const char32_t c : text) AppendUtf8(c, utf8);
  return utf8;
}

size_t Utf8Bytes(char32_t c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }

// A word of a text: as the tokenizer sees it, and which bytes of the text it is.
struct TextWord {
  std::u32string word;
  size_t begin = 0;
  size_t end = 0;
};

// Appends the words of characters without white space between them, which start at byte `byte` of their text.
void AppendWords(const std::u32string& characters, size_t byte, std::vector<TextWord>& words) {
  std::vector<size_t> byte_of = {byte};  // of each character, and the end
  for (const char32_t c : characters) byte_of.push_back(byte_of.back() + Utf8Bytes(c));
  const std::u32string normal = NormalizePrompt(characters);
  const bool in_step = normal.size() == characters.size();  // else one place stands for all of them
  for (const Piece& piece : SplitPieces(normal)) {
    if (ClassOf(normal[piece.begin]) != CharClass::kLetter) continue;
    words.push_back({normal.substr(piece.begin, piece.end - piece.begin),
                     in_step ? byte_of[piece.begin] : byte_of.front(), in_step ? byte_of[piece.end] : byte_of.back()});
  }
}

std::vector<TextWord> WordsOf(std::string_view text) {
  std::vector<TextWord> words;
  std::u32string together;
  size_t begin = 0;
  size_t byte = 0;
  for (const char32_t c : DecodeUtf8(text)) {
    const bool space = ClassOf(c) == CharClass::kSpace;
    if (space && !together.empty()) {
      AppendWords(together, begin, words);
      together.clear();
    }
    if (!space && together.empty()) begin = byte;
    if (!space) together.push_back(c);
    byte += Utf8Bytes(c);
  }
  AppendWords(together, begin, words);
  return words;
}

bool IsEastAsian(std::u32string_view word) {
  return std::any_of(word.begin(), word.end(), [](char32_t c) { return c >= kFirstEastAsian; });
}

// What a noun keeps in the plural and a verb before -ing and -ed, roughly: words with equal stems are related. For
// hints only.
std::u32string StemOf(std::u32string_view word) {
  constexpr size_t kLeast = 3;  // "ring" is no form of "r"
  for (const std::u32string_view ending : {U"ing", U"ed", U"s"}) {
    const bool hisses = ending == U"s" && word.ends_with(U"ss");
    if (word.size() < ending.size() + kLeast || !word.ends_with(ending) || hisses) continue;
    word.remove_suffix(ending.size());
    break;
  }
  if (word.size() >= kLeast && word.back() == U'e') word.remove_suffix(1);                   // ride, riding
  if (word.size() >= kLeast && word.back() == word[word.size() - 2]) word.remove_suffix(1);  // run, running
  std::u32string stem(word);
  if (stem.size() >= kLeast && stem.back() == U'y') stem.back() = U'i';  // berry, berries
  return stem;
}

// What is wrong with a line's word, empty where nothing is.
std::string Fault(std::string_view line, const std::u32string& word, const std::u32string& previous) {
  const std::u32string normal = NormalizePrompt(word);
  const std::vector<Piece> pieces = SplitPieces(normal);
  if (ToUtf8(word) != line) return "is not UTF-8; save the file as UTF-8";
  if (word.size() > kMaxWordLetters) return absl::StrCat("is longer than ", kMaxWordLetters, " letters");
  if (pieces.size() != 1 || ClassOf(normal.front()) != CharClass::kLetter) {
    return "is not one word of letters; write one word a line, without digits and signs";
  }
  if (normal != word) return absl::StrCat("is not written as the tokenizer reads it; write ", ToUtf8(normal));
  if (word == previous) return "is there twice; remove one";
  if (word < previous) return absl::StrCat("comes after ", ToUtf8(previous), "; sort the lines by their bytes");
  return "";
}

}  // namespace

absl::StatusOr<std::optional<WordList>> WordList::Load(const ModelFolder& model) {
  if (!model.Has(kWordsFile)) return std::nullopt;
  const absl::StatusOr<std::string> bytes = model.Read(kWordsFile, kMaxWordsFileBytes);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<WordList> list = Parse(*bytes, kWordsFile);
  if (!list.ok()) return list.status();
  return std::optional<WordList>(*std::move(list));
}

absl::StatusOr<WordList> WordList::Parse(std::string_view bytes, const std::string& file) {
  WordList list;
  const auto wrong = [&](size_t line, const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(file, ":", line, ": ", what, "."));
  };
  if (bytes.size() > kMaxWordsFileBytes) {
    return wrong(1, absl::StrCat("the file has ", bytes.size(), " bytes; at most ", kMaxWordsFileBytes, " are read"));
  }
  for (size_t begin = 0, number = 1; begin < bytes.size(); ++number) {
    const size_t end = std::min(bytes.find('\n', begin), bytes.size());
    const absl::string_view trimmed = absl::StripAsciiWhitespace({bytes.data() + begin, end - begin});
    const std::string_view line(trimmed.data(), trimmed.size());
    begin = end + 1;
    if (line.empty() || line.front() == '#') continue;
    if (list.words_.size() == kMaxWords) return wrong(number, absl::StrCat("more than ", kMaxWords, " words"));
    std::u32string word = DecodeUtf8(line);
    const std::u32string previous = list.words_.empty() ? U"" : list.words_.back();
    if (const std::string fault = Fault(line, word, previous); !fault.empty()) {
      return wrong(number, absl::StrCat("'", ToUtf8(word.substr(0, kMaxWordLetters)), "' ", fault));
    }
    list.words_.push_back(std::move(word));
  }
  if (list.words_.empty()) return wrong(1, "it lists no word; without the file, the model knows every word");
  for (size_t i = 0; i < list.words_.size(); ++i) {
    const auto [known, is_new] = list.of_stem_.try_emplace(StemOf(list.words_[i]), i);
    if (!is_new && list.words_[i].size() < list.words_[known->second].size()) known->second = i;
  }
  return list;
}

bool WordList::Knows(const std::u32string& word) const {
  return std::binary_search(words_.begin(), words_.end(), word);
}

std::string WordList::Nearest(const std::u32string& word) const {
  if (word.size() > kMaxWordLetters) return "";
  if (const auto related = of_stem_.find(StemOf(word)); related != of_stem_.end()) {
    return ToUtf8(words_[related->second]);
  }
  // Of three letters one may differ, of fewer none: else any short word would do.
  size_t best = std::min(kMaxDistance, word.size() > 4 ? kMaxDistance : word.size() / 3) + 1;
  const std::u32string* nearest = nullptr;
  for (const std::u32string& known : words_) {
    const size_t longer = std::max(known.size(), word.size()) - std::min(known.size(), word.size());
    if (longer >= best) continue;
    const size_t distance = base::EditDistance<char32_t>(word, known, best);
    if (distance >= best) continue;
    best = distance;
    nearest = &known;
  }
  return nearest == nullptr ? "" : ToUtf8(*nearest);
}

UnknownWords WordList::FindUnknown(const std::vector<std::string>& texts, size_t limit) const {
  UnknownWords unknown;
  for (size_t t = 0; t < texts.size(); ++t) {
    const std::vector<TextWord> words = WordsOf(texts[t]);
    std::set<std::u32string> told;
    for (size_t w = 0; w < words.size(); ++w) {
      if (Knows(words[w].word)) continue;
      TextWord found = words[w];
      if (IsEastAsian(found.word)) {
        for (; w + 1 < words.size() && IsEastAsian(words[w + 1].word) && !Knows(words[w + 1].word); ++w) {
          found.end = words[w + 1].end;
        }
        found.word = DecodeUtf8(std::string_view(texts[t]).substr(found.begin, found.end - found.begin));
      }
      if (!told.insert(found.word).second) continue;
      if (unknown.words.size() == limit) {
        ++unknown.left_out;
      } else {
        unknown.words.push_back({t, found.begin, found.end - found.begin, Nearest(found.word)});
      }
    }
  }
  return unknown;
}

}  // namespace storyfarm::model
