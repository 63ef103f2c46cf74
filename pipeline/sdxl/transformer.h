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
  // The block in two halves around its self-attention: x = Enter(tokens), then Leave(tokens, y, text) with y, what the
  // heads of attn1 make of x, and the text's keys; it changes tokens in place. All [B, N, C]. The caller holds
  // weights() from one to the other.
  at::Tensor Enter(const at::Tensor& tokens) const { return norm1_(tokens); }
  void Leave(at::Tensor& tokens, at::Tensor y, const KeysValues& text) const;
  // Of encoder hidden states [B, T, context channels]. The caller holds weights().
  KeysValues ProjectText(const at::Tensor& context) const { return cross_attention_.ProjectContext(context); }

  const WeightBlock& weights() const { return weights_; }
  const SelfAttention& self_attention() const { return self_attention_; }
  int64_t site() const { return site_; }  // SelfAttentionSite::layer; -1: no hook here

 private:
  int64_t site_;
  WeightBlock weights_;
  LayerNorm norm1_, norm2_, norm3_;
  SelfAttention self_attention_;
  CrossAttention cross_attention_;
  Linear gate_, out_;
};

// Transformer2DModel: [B, C, H, W] -> the same shape, as ProjectIn, each of blocks() over the tokens, ProjectOut.
class Transformer2d {
 public:
  // Begins blocks of weights of its own: projection in, each transformer block, projection out.
  Transformer2d(const WeightScope& at, const TransformerOptions& options);
  at::Tensor ProjectIn(const at::Tensor& x) const;  // [B, H x W, C]
  // `x`: what ProjectIn was given; the result may be x itself, changed in place.
  at::Tensor ProjectOut(const at::Tensor& tokens, at::Tensor x) const;
  const std::vector<TransformerBlock>& blocks() const { return blocks_; }

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
