// Multi-head attention as diffusers' Attention module has it, and the door through which pipeline/identity replaces the
// self-attention of the UNet's up blocks.
#ifndef STORYFARM_PIPELINE_SDXL_ATTENTION_H_
#define STORYFARM_PIPELINE_SDXL_ATTENTION_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <string>

#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

// What a memory plan says of every attention of a UNet.
struct AttentionOptions {
  // Queries attended at a time, which bounds the scores where a backend materialises them (MPS); 0: all at once.
  int64_t query_chunk = 0;
};

// attend(q, kv) = to_out(softmax(to_q(q) to_k(kv)^T / sqrt(d)) to_v(kv)), per head.
class Attention {
 public:
  // `options` outlives this. `upcast`: scores in float32 (config upcast_attention).
  Attention(const WeightScope& at, int64_t query_channels, int64_t context_channels, int64_t heads, bool upcast,
            const AttentionOptions* options);

  // q_input [B, N, C], kv_input [B, M, context channels] -> [B, N, C]. M may be anything from 1. No residual is added.
  at::Tensor Attend(const at::Tensor& q_input, const at::Tensor& kv_input) const;

  int64_t channels() const { return channels_; }
  int64_t heads() const { return heads_; }

 private:
  int64_t channels_;
  int64_t heads_;
  bool upcast_;
  const AttentionOptions* options_;
  Linear to_q_, to_k_, to_v_, to_out_;
};

// One call of attn1 in an up block.
struct SelfAttentionSite {
  int64_t layer;   // from 0, in execution order over all up blocks (UNet::self_attention_layers)
  int64_t height;  // of the grid, in tokens; N = height x width, row-major
  int64_t width;
  const Attention& attention;
};

// Called in place of attn1 of every transformer block in the UNet's up blocks, in execution order, once per forward.
class SelfAttentionHook {
 public:
  virtual ~SelfAttentionHook() = default;
  // x = norm1(h), [B, N, C], B as the UNet's batch -> y [B, N, C]; the block goes on with h + y. Plain self-attention
  // is `site.attention.Attend(x, x)`.
  virtual at::Tensor Attend(const SelfAttentionSite& site, const at::Tensor& x) = 0;
};

// What is known of a site before anything runs.
struct SelfAttentionLayer {
  std::string name;      // as diffusers names it: "up_blocks.0.attentions.0.transformer_blocks.0.attn1"
  int64_t channels;      // C
  int64_t downsampling;  // latents an edge of a token: 1, 2, 4, ...; the grid is ceil(latents / downsampling)
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_ATTENTION_H_
