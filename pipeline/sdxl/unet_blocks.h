// The UNet's down, mid and up blocks. Internal to this folder.
#ifndef STORYFARM_PIPELINE_SDXL_UNET_BLOCKS_H_
#define STORYFARM_PIPELINE_SDXL_UNET_BLOCKS_H_

#include <ATen/ATen.h>

#include <cstdint>
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

// What every block of one forward sees.
struct BlockContext {
  at::Tensor time;                    // silu of the summed embeddings, [B, time_embed_dim]
  at::Tensor context;                 // encoder hidden states [B, T, cross_attention_dim]
  SelfAttentionHook* hook = nullptr;  // up blocks only
  std::optional<FreeU> freeu;
  SkipFilter* skip_filter = nullptr;
};

// Skips in the order in which down blocks made them; up blocks take them from the end.
using Skips = std::vector<at::Tensor>;

// DownBlock2D, CrossAttnDownBlock2D.
class DownBlock {
 public:
  DownBlock(const WeightScope& at, const model::UNetConfig& config, const model::UNetBlock& block, int64_t in_channels,
            bool downsample, const AttentionOptions* attention);
  at::Tensor operator()(at::Tensor h, const BlockContext& context, Skips& skips) const;

 private:
  std::vector<ResnetBlock> resnets_;
  std::vector<Transformer2d> attentions_;
  std::optional<Downsample> downsample_;
};

// UNetMidBlock2DCrossAttn.
class MidBlock {
 public:
  MidBlock(const WeightScope& at, const model::UNetConfig& config, const AttentionOptions* attention);
  at::Tensor operator()(at::Tensor h, const BlockContext& context) const;

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
  at::Tensor operator()(at::Tensor h, const BlockContext& context, Skips& skips) const;

 private:
  int64_t index_;
  std::vector<ResnetBlock> resnets_;
  std::vector<Transformer2d> attentions_;
  std::optional<Upsample> upsample_;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_UNET_BLOCKS_H_
