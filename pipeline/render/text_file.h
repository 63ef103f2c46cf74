// Prompt embeddings as a file, so that whoever draws from them loads no text encoder.
//
// safetensors; of each text, named by its SHA-256 in hex: "embeds/<text>" [T, D] and "pooled/<text>" [P], as the
// encoders gave them, in the number format that they ran in. Metadata: format, version, and whose they are.
#ifndef STORYFARM_PIPELINE_RENDER_TEXT_FILE_H_
#define STORYFARM_PIPELINE_RENDER_TEXT_FILE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/render/request.h"
#include "pipeline/sdxl/text_encoder.h"

namespace storyfarm::render {

using TextEmbeddings = std::map<std::string, sdxl::PromptEmbeds>;  // by text: [1, T, D], [1, P], in host memory

absl::Status WriteTextFile(base::Env& env, const std::string& path, const std::string& encoders,
                           const TextEmbeddings& embeddings);

// Embeddings of prompts from files, whole and of the right encoders.
class TextReader {
 public:
  // BLOB_UNAVAILABLE: a file is missing or damaged (another copy may be whole). BAD_INPUT: it is another encoder's, or
  // no file of embeddings.
  static absl::StatusOr<TextReader> Open(base::Env& env, const TextFiles& files);
  // BAD_INPUT where no file has the text.
  absl::StatusOr<sdxl::PromptEmbeds> Find(const std::string& text) const;

 private:
  std::map<std::string, sdxl::PromptEmbeds> embeds_;  // by the text's SHA-256 in hex
};

}  // namespace storyfarm::render

#endif  // STORYFARM_PIPELINE_RENDER_TEXT_FILE_H_
