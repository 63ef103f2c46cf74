// CLIP's byte-level BPE tokenizer, id for id what transformers 5.23's CLIPTokenizer gives.
//
//   text --NFC, white space, lower case--> normal text --pattern--> pieces --byte alphabet, merges--> tokens --> ids
//
// Special tokens ("<|startoftext|>", "<|endoftext|>" and the pad token, "!" in SDXL's second tokenizer) are cut out of
// the text first, wherever they stand, and give their own ids.
#ifndef STORYFARM_PIPELINE_MODEL_TOKENIZER_H_
#define STORYFARM_PIPELINE_MODEL_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/model/model_folder.h"

namespace storyfarm::model {

struct Encoding {
  std::vector<int32_t> ids;   // start, up to max_length - 2 tokens, end, padding: exactly max_length
  size_t token_count = 0;     // of the text's own tokens that are in `ids`
  size_t dropped_tokens = 0;  // that did not fit
  std::string
      dropped_text;  // normalised text from the first word that lost a token to the end; empty: nothing was lost
};

inline constexpr size_t kMaxTokenizerFileBytes = size_t{32} << 20;  // CLIP's have at most 3.6 MB

// The bytes of a tokenizer's files; what is absent is empty.
struct TokenizerFiles {
  std::string folder;  // for messages: "tokenizer_2"
  std::string vocab_json;
  std::string merges_txt;             // with vocab.json
  std::string tokenizer_json;         // holds vocabulary and merges where there is no vocab.json
  std::string tokenizer_config_json;  // absent: CLIP's defaults
  std::string special_tokens_map_json;
  std::string added_tokens_json;
};

// Immutable: any thread may encode.
class ClipTokenizer {
 public:
  // `folder`: "tokenizer" or "tokenizer_2".
  static absl::StatusOr<ClipTokenizer> Load(const ModelFolder& model, const std::string& folder);
  // INVALID_ARGUMENT where a file is not what it should be: names file, line and what is wrong.
  static absl::StatusOr<ClipTokenizer> Create(const TokenizerFiles& files);
  ClipTokenizer(ClipTokenizer&&) noexcept;
  ClipTokenizer& operator=(ClipTokenizer&&) noexcept;
  ~ClipTokenizer();

  // Any bytes: what is not UTF-8 counts as U+FFFD. Time and memory are linear in the text's length but for single
  // words, where merging takes n log n.
  Encoding Encode(std::string_view text) const;
  // All tokens of the text, without start, end and padding.
  std::vector<int32_t> EncodeUnbounded(std::string_view text) const;

  size_t max_length() const;  // 77
  int32_t start_id() const;
  int32_t end_id() const;
  int32_t pad_id() const;
  size_t vocabulary_size() const;

 private:
  struct Tables;
  explicit ClipTokenizer(std::unique_ptr<const Tables> tables);
  std::unique_ptr<const Tables> tables_;
};

}  // namespace storyfarm::model

#endif  // STORYFARM_PIPELINE_MODEL_TOKENIZER_H_
