// Multi-head attention as diffusers' Attention module has it, and the door through which pipeline/identity replaces the
// self-attention of the UNet's up blocks.
#ifndef STORYFARM_PIPELINE_SDXL_ATTENTION_H_
#define STORYFARM_PIPELINE_SDXL_ATTENTION_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

// What a memory plan says of every attention of a UNet.
struct AttentionOptions {
  // Queries attended at a time, which bounds the scores where a backend materialises them (MPS); 0: all at once.
  int64_t query_chunk = 0;
};

// softmax(q k^T / sqrt(d)) v per head, which both kinds of attention do.
class AttentionHeads {
 public:
  // `options` outlives this. `upcast`: scores in float32 (config upcast_attention).
  AttentionHeads(int64_t channels, int64_t heads, bool upcast, const AttentionOptions* options)
      : channels_(channels), heads_(heads), upcast_(upcast), options_(options) {}

  // q [B, N, C], k and v [B, M, C], views with any strides before the last axis -> [B, N, C]. M may be anything from 1.
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const;

  int64_t channels() const { return channels_; }

 private:
  int64_t channels_;
  int64_t heads_;
  bool upcast_;
  const AttentionOptions* options_;
};

struct KeysValues {
  at::Tensor keys, values;  // [..., C]
};

// attn1. The projections are apart from the rest: tokens that several frames attend to are projected once, and the last
// one is added to the residual as it is made.
class SelfAttention {
 public:
  SelfAttention(const WeightScope& at, int64_t channels, int64_t heads, bool upcast, const AttentionOptions* options);

  struct Projections {
    at::Tensor queries;  // [..., C]
    KeysValues own;
  };
  // x [..., C].
  Projections Project(const at::Tensor& x) const;
  KeysValues ProjectKeys(const at::Tensor& tokens) const;
  // `sets` [B, n_i, C], of which the last one's tokens attend to those of all: its queries, and the keys of all one
  // after the other, made where they are read. Only where in_place().
  Projections ProjectJoined(const std::vector<at::Tensor>& sets) const;
  bool in_place() const { return to_qkv_.stacked(); }
  // What the heads make of it, before to_out: [B, N, C] and [B, M, C] -> [B, N, C].
  at::Tensor Attend(const at::Tensor& queries, const KeysValues& attended) const;
  // The same of x [B, N, C] alone: plain self-attention.
  at::Tensor operator()(const at::Tensor& x) const;
  // sum += to_out(heads).
  void AddOut(at::Tensor& sum, const at::Tensor& heads) const { to_out_.AddTo(sum, heads); }

  int64_t channels() const { return heads_.channels(); }

 private:
  AttentionHeads heads_;
  LinearStack to_qkv_;
  Linear to_out_;
};

// attn2.
class CrossAttention {
 public:
  CrossAttention(const WeightScope& at, int64_t channels, int64_t context_channels, int64_t heads, bool upcast,
                 const AttentionOptions* options);
  // context [B, M, context channels] -> [B, M, C].
  KeysValues ProjectContext(const at::Tensor& context) const;
  // sum += what x attends to of the context; both [B, N, C].
  void AddTo(at::Tensor& sum, const at::Tensor& x, const KeysValues& context) const;

 private:
  AttentionHeads heads_;
  Linear to_q_;
  LinearStack to_kv_;
  Linear to_out_;
};

// One call of attn1 in an up block.
struct SelfAttentionSite {
  int64_t layer;   // from 0, in execution order over all up blocks (UNet::self_attention_layers)
  int64_t height;  // of the grid, in tokens; N = height x width, row-major
  int64_t width;
  const SelfAttention& attention;
};

// Called in place of attn1 of every transformer block in the UNet's up blocks, in execution order, once per forward.
class SelfAttentionHook {
 public:
  virtual ~SelfAttentionHook() = default;
  // x = norm1(h), [B, N, C], B as the UNet's batch -> what the heads make of it, y [B, N, C]; the block goes on with
  // h + to_out(y). Plain self-attention is `site.attention(x)`.
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
