#include "pipeline/sdxl/transformer.h"

#include <utility>

namespace storyfarm::sdxl {
namespace {

constexpr double kLayerNormEps = 1e-5;  // diffusers' BasicTransformerBlock and Transformer2DModel fix both
constexpr double kGroupNormEps = 1e-6;
constexpr int64_t kFeedForwardFactor = 4;

}  // namespace

TransformerBlock::TransformerBlock(const WeightScope& at, const TransformerOptions& options, int64_t site)
    : site_(site),
      weights_(at.block()),
      norm1_(at / "norm1", options.channels, kLayerNormEps),
      norm2_(at / "norm2", options.channels, kLayerNormEps),
      norm3_(at / "norm3", options.channels, kLayerNormEps),
      self_attention_(at / "attn1", options.channels, options.heads, options.upcast_attention, options.attention),
      cross_attention_(at / "attn2", options.channels, options.context_channels, options.heads,
                       options.upcast_attention, options.attention),
      gate_(at / "ff" / "net" / 0 / "proj", options.channels, 2 * kFeedForwardFactor * options.channels),
      out_(at / "ff" / "net" / 2, kFeedForwardFactor * options.channels, options.channels) {}

void TransformerBlock::Leave(at::Tensor& tokens, at::Tensor y, const KeysValues& text) const {
  self_attention_.AddOut(tokens, y);
  y.reset();
  cross_attention_.AddTo(tokens, norm2_(tokens), text);
  out_.AddTo(tokens, gate_.Gated(norm3_(tokens)));
}

Transformer2d::Transformer2d(const WeightScope& at, const TransformerOptions& options)
    : norm_(at / "norm", options.groups, options.channels, kGroupNormEps),
      linear_projection_(options.linear_projection) {
  const auto project = [&](const char* name, WeightBlock& weights, Linear& linear, Conv2d& conv) {
    const WeightScope projection = (at / name).NewBlock();
    weights = projection.block();
    if (linear_projection_) {
      linear = Linear(projection, options.channels, options.channels);
    } else {
      conv = Conv2d(projection, options.channels, options.channels, 1);
    }
  };
  // In the order in which they run.
  project("proj_in", in_weights_, linear_in_, conv_in_);
  for (int64_t i = 0; i < options.layers; ++i) {
    blocks_.emplace_back((at / "transformer_blocks" / i).NewBlock(), options,
                         options.first_site < 0 ? -1 : options.first_site + i);
  }
  project("proj_out", out_weights_, linear_out_, conv_out_);
}

at::Tensor Transformer2d::ProjectIn(const at::Tensor& x) const {
  const auto tokens = [&](const at::Tensor& y) {
    return y.permute({0, 2, 3, 1}).reshape({x.size(0), x.size(2) * x.size(3), x.size(1)});
  };
  const at::Tensor normed = norm_(x);
  const auto lease = in_weights_.Hold();
  return linear_projection_ ? linear_in_(tokens(normed)) : tokens(conv_in_(normed));
}

at::Tensor Transformer2d::ProjectOut(const at::Tensor& tokens, at::Tensor x) const {
  const auto lease = out_weights_.Hold();
  if (linear_projection_) {
    at::Tensor cells = x.permute({0, 2, 3, 1}).flatten(1, 2);
    linear_out_.AddTo(cells, tokens);
    return x;
  }
  return x + conv_out_(tokens.view({x.size(0), x.size(2), x.size(3), x.size(1)}).permute({0, 3, 1, 2}));
}

}  // namespace storyfarm::sdxl
