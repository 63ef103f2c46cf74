// The UNet's transformer over a grid of tokens. Internal to this folder.
#ifndef STORYFARM_PIPELINE_SDXL_TRANSFORMER_H_
#define STORYFARM_PIPELINE_SDXL_TRANSFORMER_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "pipeline/sdxl/attention.h"
#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

struct TransformerOptions {
  int64_t channels = 0;
  int64_t heads = 0;
  int64_t context_channels = 0;  // of the encoder hidden states
  int64_t layers = 1;
  int64_t groups = 32;
  bool linear_projection = true;  // else 1x1 convolutions
  bool upcast_attention = false;
  const AttentionOptions* attention = nullptr;  // outlives the transformer
  int64_t first_site = -1;                      // SelfAttentionSite::layer of the first block; -1: no hook here
};

// BasicTransformerBlock: self-attention, cross-attention, GEGLU feed-forward, each with a residual.
class TransformerBlock {
 public:
  TransformerBlock(const WeightScope& at, const TransformerOptions& options, int64_t site);
  // h [B, height x width, C]; context [B, T, context channels].
  at::Tensor operator()(at::Tensor h, const at::Tensor& context, int64_t height, int64_t width,
                        SelfAttentionHook* hook) const;

 private:
  int64_t site_;
  WeightBlock weights_;
  LayerNorm norm1_, norm2_, norm3_;
  Attention self_attention_, cross_attention_;
  Linear gate_, out_;
};

// Transformer2DModel: [B, C, H, W] -> the same shape.
class Transformer2d {
 public:
  // Begins blocks of weights of its own: projection in, each transformer block, projection out.
  Transformer2d(const WeightScope& at, const TransformerOptions& options);
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& context, SelfAttentionHook* hook) const;

 private:
  GroupNorm norm_;
  bool linear_projection_;
  WeightBlock in_weights_, out_weights_;
  Linear linear_in_, linear_out_;
  Conv2d conv_in_, conv_out_;
  std::vector<TransformerBlock> blocks_;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_TRANSFORMER_H_
