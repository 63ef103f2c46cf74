// CLIP's text model and what SDXL takes of its two: prompt embeddings and the pooled vector.
#ifndef STORYFARM_PIPELINE_SDXL_TEXT_ENCODER_H_
#define STORYFARM_PIPELINE_SDXL_TEXT_ENCODER_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "pipeline/model/config.h"
#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

// CLIPTextModel (transformers 5.23): causal transformer, pre-norm, quick_gelu or gelu. Takes its tensors while it is
// built; the caller asks Weights::Finish afterwards.
class ClipTextModel {
 public:
  ClipTextModel(const model::ClipTextConfig& config, Weights* weights);
  ~ClipTextModel();

  struct Output {
    at::Tensor penultimate;  // [B, T, D]: input of the last layer, not normalised
    at::Tensor last;         // [B, T, D]: after the final layer norm
    at::Tensor pooled;       // [B, P]: of `last` at the end-of-text token, projected where the model has a projection
  };
  // ids [B, T] int64, T at most max_position_embeddings. The end-of-text token is the first occurrence of eos_token_id,
  // or of the largest id where the config says 2 (as published SDXL checkpoints do).
  Output Forward(const at::Tensor& ids) const;

 private:
  struct Layer;

  at::Tensor EndOfText(const at::Tensor& ids) const;  // [B] positions

  int64_t eos_token_id_;
  at::Tensor token_embedding_;     // [V, D]
  at::Tensor position_embedding_;  // [max positions, D]
  std::vector<std::unique_ptr<Layer>> layers_;
  LayerNorm final_norm_;
  Linear projection_;  // no bias; not present in a plain CLIPTextModel
};

struct PromptEmbeds {
  at::Tensor embeds;  // [B, T, D1 + D2]: both encoders' penultimate states
  at::Tensor pooled;  // [B, P]: the second encoder's projection

  // What an absent negative prompt is where the model says force_zeros_for_empty_prompt.
  PromptEmbeds ZerosLike() const;
};

class TextEncoders {
 public:
  TextEncoders(std::unique_ptr<ClipTextModel> first, std::unique_ptr<ClipTextModel> second, Placement placement);

  // One row of token ids a prompt, from each tokenizer; all rows of one length. Results are on the device.
  PromptEmbeds Encode(const std::vector<std::vector<int32_t>>& first_ids,
                      const std::vector<std::vector<int32_t>>& second_ids) const;

 private:
  std::unique_ptr<ClipTextModel> first_;
  std::unique_ptr<ClipTextModel> second_;
  Placement placement_;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_TEXT_ENCODER_H_
