// UNet2DConditionModel as SDXL's configs use it: predicts the noise (or v) in latents at a timestep, given a prompt.
#ifndef STORYFARM_PIPELINE_SDXL_UNET_H_
#define STORYFARM_PIPELINE_SDXL_UNET_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "pipeline/model/config.h"
#include "pipeline/sdxl/attention.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

// FreeU (Si et al. 2023): backbone factors b and skip factors s of up blocks 0 and 1.
struct FreeU {
  double s1 = 0.6;
  double s2 = 0.4;
  double b1 = 1.1;
  double b2 = 1.2;
};

struct UNetInput {
  at::Tensor latents;                // [B, in_channels, h, w], scaled as the scheduler says
  double timestep = 0;               // the same for the whole batch; may be a fraction (Karras spacing)
  at::Tensor encoder_hidden_states;  // [B, T, cross_attention_dim]: PromptEmbeds::embeds
  at::Tensor pooled;                 // [B, P]: PromptEmbeds::pooled
  at::Tensor time_ids;               // [B, 6] float32: original H, W, crop top, left, target H, W
};

class UNet {
 public:
  // Takes its tensors from `weights`; the caller asks Weights::Finish afterwards.
  UNet(const model::UNetConfig& config, Weights* weights);
  ~UNet();

  // The prediction, [B, out_channels, h, w], in the UNet's dtype. h and w may be odd at any level: up blocks come back
  // to their skip's size. `hook` null: plain self-attention.
  at::Tensor Forward(const UNetInput& input, SelfAttentionHook* hook = nullptr) const;

  // Off where absent; stays set for every later Forward.
  void set_freeu(std::optional<FreeU> freeu);
  // Queries an attention takes at a time; 0: all.
  void set_attention_chunk(int64_t queries);

  // What the weights of its blocks take.
  BlockBytes block_bytes() const;
  // Gives back the buffer through which weights stream, until the next Forward.
  void Park();

  // Where the hook is called, in execution order.
  const std::vector<SelfAttentionLayer>& self_attention_layers() const;
  const Placement& placement() const;

 private:
  struct Network;
  std::unique_ptr<Network> network_;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_UNET_H_
