// The UNet's down, mid and up blocks. Internal to this folder.
#ifndef STORYFARM_PIPELINE_SDXL_UNET_BLOCKS_H_
#define STORYFARM_PIPELINE_SDXL_UNET_BLOCKS_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "pipeline/model/config.h"
#include "pipeline/sdxl/attention.h"
#include "pipeline/sdxl/resnet.h"
#include "pipeline/sdxl/transformer.h"
#include "pipeline/sdxl/unet.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

class SkipFilter;

// Skips in the order in which down blocks made them; up blocks take them from the end.
using Skips = std::vector<at::Tensor>;

// A forward pass under way.
struct ForwardState {
  at::Tensor time;     // silu of the summed embeddings, [B, time_embed_dim]
  at::Tensor context;  // encoder hidden states [B, T, cross_attention_dim]
  std::optional<FreeU> freeu;
  SkipFilter* skip_filter = nullptr;
  at::Tensor h;       // [B, C, H, W]
  at::Tensor tokens;  // inside a transformer over h
  Skips skips;
  // Of all transformer blocks in order, where they are known beforehand.
  const std::vector<KeysValues>* text = nullptr;
  size_t next_text = 0;

  // What the next block, `block`, attends to of the text.
  KeysValues TextOf(const TransformerBlock& block);
};

// A forward pass is a sequence of units, each of which reads the weights of at most one block (weight_stream.h). Either
// `run` does it, or it is a transformer block whose self-attention is somebody else's to compute.
struct ForwardUnit {
  std::function<void(ForwardState&)> run;
  const TransformerBlock* block = nullptr;
  const TransformerBlock* reads_text = nullptr;  // the transformer block that either of them is
};

// DownBlock2D, CrossAttnDownBlock2D.
class DownBlock {
 public:
  DownBlock(const WeightScope& at, const model::UNetConfig& config, const model::UNetBlock& block, int64_t in_channels,
            bool downsample, const AttentionOptions* attention);
  // Appends what it does. The block stays where it is as long as the units live.
  void AddUnits(std::vector<ForwardUnit>* units) const;

 private:
  std::vector<ResnetBlock> resnets_;
  std::vector<Transformer2d> attentions_;
  std::optional<Downsample> downsample_;
};

// UNetMidBlock2DCrossAttn.
class MidBlock {
 public:
  MidBlock(const WeightScope& at, const model::UNetConfig& config, const AttentionOptions* attention);
  // Appends what it does. The block stays where it is as long as the units live.
  void AddUnits(std::vector<ForwardUnit>* units) const;

 private:
  std::vector<ResnetBlock> resnets_;
  std::vector<Transformer2d> attentions_;
};

// UpBlock2D, CrossAttnUpBlock2D.
class UpBlock {
 public:
  // `skip_channels`: of the skips it takes, in the order it takes them, one a resnet. `index` counts up blocks from 0:
  // FreeU acts in 0 and 1. `first_site`: number of its first attn1 among all up blocks'.
  UpBlock(const WeightScope& at, const model::UNetConfig& config, int64_t index, int64_t in_channels,
          const std::vector<int64_t>& skip_channels, int64_t first_site, const AttentionOptions* attention);
  // Appends what it does. The block stays where it is as long as the units live.
  void AddUnits(std::vector<ForwardUnit>* units) const;

 private:
  // The next skip, as it goes behind s.h.
  at::Tensor TakeSkip(ForwardState& s) const;

  int64_t index_;
  std::vector<ResnetBlock> resnets_;
  std::vector<Transformer2d> attentions_;
  std::optional<Upsample> upsample_;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_UNET_BLOCKS_H_
