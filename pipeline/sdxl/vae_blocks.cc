#include "pipeline/sdxl/vae_blocks.h"

#include <algorithm>
#include <vector>

namespace storyfarm::sdxl {

VaeScaling::VaeScaling(const model::VaeConfig& config, at::Device device)
    : factor_(config.scaling_factor), shift_(config.shift_factor) {
  if (config.latents_mean.empty()) return;
  const auto per_channel = [&](const std::vector<double>& values) {
    return at::tensor(values, at::kDouble).to(at::kFloat).view({1, config.latent_channels, 1, 1}).to(device);
  };
  mean_ = per_channel(config.latents_mean);
  std_ = per_channel(config.latents_std);
}

at::Tensor VaeScaling::FromModel(const at::Tensor& latents) const {
  const at::Tensor z = mean_.defined() ? latents * (std_ / factor_) + mean_ : latents / factor_;
  return shift_ ? z + *shift_ : z;
}

at::Tensor VaeScaling::ToModel(const at::Tensor& z) const {
  const at::Tensor latents = shift_ ? z - *shift_ : z;
  return mean_.defined() ? (latents - mean_) * (factor_ / std_) : latents * factor_;
}

VaeAttention::VaeAttention(const WeightScope& at, int64_t groups, int64_t channels)
    : norm_(at / "group_norm", groups, channels, kVaeNormEps) {
  // diffusers before 0.18 named the projections otherwise; VAEs saved then are still passed around.
  const bool old_names = at.Has("query.weight");
  q_ = Linear(at / (old_names ? "query" : "to_q"), channels, channels);
  k_ = Linear(at / (old_names ? "key" : "to_k"), channels, channels);
  v_ = Linear(at / (old_names ? "value" : "to_v"), channels, channels);
  out_ = Linear(at / (old_names ? "proj_attn" : "to_out.0"), channels, channels);
}

at::Tensor VaeAttention::operator()(const at::Tensor& x, int64_t most_scores) const {
  const at::Tensor tokens = norm_(x).flatten(2).transpose(1, 2);  // [B, H x W, C]
  const auto one_head = [](const at::Tensor& y) { return y.unsqueeze(1); };
  const at::Tensor q = one_head(q_(tokens)), k = one_head(k_(tokens)), v = one_head(v_(tokens));
  const int64_t count = tokens.size(1);
  const int64_t queries = most_scores > 0 ? std::max<int64_t>(1, most_scores / count) : count;
  at::Tensor attended;
  if (queries >= count) {
    attended = at::scaled_dot_product_attention(q, k, v);
  } else {
    attended = at::empty_like(q);
    for (int64_t start = 0; start < count; start += queries) {
      const int64_t length = std::min(queries, count - start);
      attended.narrow(2, start, length).copy_(at::scaled_dot_product_attention(q.narrow(2, start, length), k, v));
    }
  }
  return x + out_(attended.squeeze(1)).transpose(1, 2).view_as(x);
}

VaeMidBlock::VaeMidBlock(const WeightScope& at, const model::VaeConfig& config)
    : first_(at / "resnets" / 0, config.block_out_channels.back(), config.block_out_channels.back(),
             VaeResnetOptions(config)),
      second_(at / "resnets" / 1, config.block_out_channels.back(), config.block_out_channels.back(),
              VaeResnetOptions(config)) {
  if (config.mid_block_add_attention) {
    attention_.emplace(at / "attentions" / 0, config.norm_num_groups, config.block_out_channels.back());
  }
}

at::Tensor VaeMidBlock::operator()(const at::Tensor& x, int64_t most_scores) const {
  at::Tensor h = first_(x, {});
  if (attention_) h = (*attention_)(h, most_scores);
  return second_(h, {});
}

}  // namespace storyfarm::sdxl
