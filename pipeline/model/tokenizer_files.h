// A tokenizer's files as tables. Internal to this folder.
#ifndef STORYFARM_PIPELINE_MODEL_TOKENIZER_FILES_H_
#define STORYFARM_PIPELINE_MODEL_TOKENIZER_FILES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/model/tokenizer.h"

namespace storyfarm::model {

// A token that is cut out of the text as it is, before anything else looks at it.
struct AddedToken {
  std::string content;  // UTF-8
  int32_t id = 0;
  bool normalized = false;  // looked for in the normalised text, and itself normalised
};

struct Merge {
  int32_t rank = 0;
  int32_t id = 0;  // of the token that it makes
};

struct TokenizerTables {
  std::unordered_map<std::string, int32_t> vocabulary;
  std::unordered_map<uint64_t, Merge> merges;  // by MergeKey
  std::vector<AddedToken> added;
  int32_t start_id = 0;
  int32_t end_id = 0;
  int32_t unknown_id = 0;
  int32_t pad_id = 0;
  size_t max_length = 77;
};

inline uint64_t MergeKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

// Which added and special tokens there are, follows transformers 5.23: `added_tokens_decoder` of the config where it is
// there, else tokenizer.json's list, else added_tokens.json; then start, end, unknown and pad token, where not among
// these. Names of those come from the config, overridden by special_tokens_map.json unless the config has
// `added_tokens_decoder`. `do_lower_case` is not read: CLIP's tokenizer always lower-cases.
absl::StatusOr<TokenizerTables> ReadTokenizerTables(const TokenizerFiles& files);

}  // namespace storyfarm::model

#endif  // STORYFARM_PIPELINE_MODEL_TOKENIZER_FILES_H_
