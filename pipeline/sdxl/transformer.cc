#include "pipeline/sdxl/transformer.h"

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
      self_attention_(at / "attn1", options.channels, options.channels, options.heads, options.upcast_attention,
                      options.attention),
      cross_attention_(at / "attn2", options.channels, options.context_channels, options.heads,
                       options.upcast_attention, options.attention),
      gate_(at / "ff" / "net" / 0 / "proj", options.channels, 2 * kFeedForwardFactor * options.channels),
      out_(at / "ff" / "net" / 2, kFeedForwardFactor * options.channels, options.channels) {}

at::Tensor TransformerBlock::operator()(at::Tensor h, const at::Tensor& context, int64_t height, int64_t width,
                                        SelfAttentionHook* hook) const {
  const auto lease = weights_.Hold();
  {
    const at::Tensor x = norm1_(h);
    h = h + (hook != nullptr && site_ >= 0 ? hook->Attend({site_, height, width, self_attention_}, x)
                                           : self_attention_.Attend(x, x));
  }
  h.add_(cross_attention_.Attend(norm2_(h), context));
  const auto halves = gate_(norm3_(h)).chunk(2, -1);
  h.add_(out_(at::gelu(halves[1]).mul_(halves[0])));
  return h;
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

at::Tensor Transformer2d::operator()(const at::Tensor& x, const at::Tensor& context, SelfAttentionHook* hook) const {
  const int64_t batch = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  const auto tokens = [&](const at::Tensor& y) {
    return y.permute({0, 2, 3, 1}).reshape({batch, height * width, channels});
  };
  const auto grid = [&](const at::Tensor& y) { return y.view({batch, height, width, channels}).permute({0, 3, 1, 2}); };
  at::Tensor h = norm_(x);
  {
    const auto lease = in_weights_.Hold();
    h = linear_projection_ ? linear_in_(tokens(h)) : tokens(conv_in_(h));
  }
  for (const TransformerBlock& block : blocks_) h = block(h, context, height, width, hook);
  const auto lease = out_weights_.Hold();
  return x + (linear_projection_ ? grid(linear_out_(h)) : conv_out_(grid(h)));
}

}  // namespace storyfarm::sdxl
