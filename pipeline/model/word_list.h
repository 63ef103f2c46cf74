// The words that a small model was taught: what its folder's words.txt lists. A model without that file knows every
// word, as SDXL does.
#ifndef STORYFARM_PIPELINE_MODEL_WORD_LIST_H_
#define STORYFARM_PIPELINE_MODEL_WORD_LIST_H_

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/model/model_folder.h"

namespace storyfarm::model {

inline constexpr char kWordsFile[] = "words.txt";              // path in the model
inline constexpr size_t kMaxWordsFileBytes = size_t{1} << 20;  // with comments; kMaxWords of 20 bytes
inline constexpr size_t kMaxWords = 50'000;                    // as many tokens as CLIP has
inline constexpr size_t kMaxWordLetters = 64;                  // comparing two words is quadratic

// A word of a text that a model was not taught.
struct UnknownWord {
  size_t text = 0;  // which of the texts
  size_t byte = 0;  // where it starts in that text
  size_t byte_count = 0;
  std::string nearest;  // the known word that was perhaps meant; empty where none is near
};

struct UnknownWords {
  std::vector<UnknownWord> words;  // in the order of the texts
  size_t left_out = 0;             // how many more there are
};

// Immutable.
class WordList {
 public:
  // words.txt of a model; nothing where it has none. INVALID_ARGUMENT as Parse.
  static absl::StatusOr<std::optional<WordList>> Load(const ModelFolder& model);

  // UTF-8, one word a line: letters only, in lower case, each line bytewise after the one before it. Blank lines and
  // lines that start with '#' say nothing. INVALID_ARGUMENT names `file` and the line and says what to do.
  static absl::StatusOr<WordList> Parse(std::string_view bytes, const std::string& file);

  // The words of prompts (valid UTF-8) that are not in the list, each once a text, at most `limit`. Words are what
  // CLIP's pre-tokenization sees: runs of letters, in lower case; digits, punctuation and contractions ('s, 'll) count
  // as known. East Asian text, which has no blanks between words, is one unknown word from its first letter to its
  // last, up to the next word of another script.
  UnknownWords FindUnknown(const std::vector<std::string>& texts, size_t limit) const;

  size_t size() const { return words_.size(); }

 private:
  WordList() = default;
  bool Knows(const std::u32string& word) const;
  std::string Nearest(const std::u32string& word) const;

  std::vector<std::u32string> words_;         // sorted
  std::map<std::u32string, size_t> of_stem_;  // the shortest word of each stem
};

}  // namespace storyfarm::model

#endif  // STORYFARM_PIPELINE_MODEL_WORD_LIST_H_
