#include "pipeline/sdxl/attention.h"

#include <algorithm>

namespace storyfarm::sdxl {

at::Tensor AttentionHeads::operator()(const at::Tensor& q_all, const at::Tensor& k_all, const at::Tensor& v_all) const {
  const int64_t batch = q_all.size(0), queries = q_all.size(1);
  auto by_head = [&](const at::Tensor& x) {  // [B, T, C] -> [B, heads, T, C / heads], a view
    at::Tensor y = x.unflatten(-1, {heads_, channels_ / heads_}).transpose(1, 2);
    return upcast_ ? y.to(at::kFloat) : y;
  };
  const at::Tensor q = by_head(q_all), k = by_head(k_all), v = by_head(v_all);
  const int64_t chunk = options_->query_chunk;
  at::Tensor y;
  if (chunk <= 0 || chunk >= queries) {
    y = at::scaled_dot_product_attention(q, k, v);
  } else {
    y = at::empty_like(q);
    for (int64_t start = 0; start < queries; start += chunk) {
      const int64_t length = std::min(chunk, queries - start);
      y.narrow(2, start, length).copy_(at::scaled_dot_product_attention(q.narrow(2, start, length), k, v));
    }
  }
  return y.transpose(1, 2).reshape({batch, queries, channels_}).to(q_all.scalar_type());
}

SelfAttention::SelfAttention(const WeightScope& at, int64_t channels, int64_t heads, bool upcast,
                             const AttentionOptions* options)
    : heads_(channels, heads, upcast, options),
      to_qkv_(at, {"to_q", "to_k", "to_v"}, channels, channels),
      to_out_(at / "to_out" / 0, channels, channels) {}

SelfAttention::Projections SelfAttention::Project(const at::Tensor& x) const {
  std::vector<at::Tensor> all = to_qkv_(x, 0, 3);
  return {all[0], {all[1], all[2]}};
}

KeysValues SelfAttention::ProjectKeys(const at::Tensor& tokens) const {
  std::vector<at::Tensor> both = to_qkv_(tokens, 1, 2);
  return {both[0], both[1]};
}

SelfAttention::Projections SelfAttention::ProjectJoined(const std::vector<at::Tensor>& sets) const {
  int64_t total = 0;
  for (const at::Tensor& set : sets) total += set.size(1);
  const at::Tensor& own = sets.back();
  const at::Tensor joined = at::empty({own.size(0), total, 2 * channels()}, own.options());
  int64_t row = 0;
  for (const at::Tensor& set : sets) {
    to_qkv_.To(joined.narrow(1, row, set.size(1)), set, 1, 2);
    row += set.size(1);
  }
  return {to_qkv_(own, 0, 1)[0], {joined.narrow(2, 0, channels()), joined.narrow(2, channels(), channels())}};
}

at::Tensor SelfAttention::Attend(const at::Tensor& queries, const KeysValues& attended) const {
  return heads_(queries, attended.keys, attended.values);
}

at::Tensor SelfAttention::operator()(const at::Tensor& x) const {
  const Projections projected = Project(x);
  return Attend(projected.queries, projected.own);
}

CrossAttention::CrossAttention(const WeightScope& at, int64_t channels, int64_t context_channels, int64_t heads,
                               bool upcast, const AttentionOptions* options)
    : heads_(channels, heads, upcast, options),
      to_q_(at / "to_q", channels, channels, Bias::kNone),
      to_kv_(at, {"to_k", "to_v"}, context_channels, channels),
      to_out_(at / "to_out" / 0, channels, channels) {}

KeysValues CrossAttention::ProjectContext(const at::Tensor& context) const {
  std::vector<at::Tensor> both = to_kv_(context, 0, 2);
  return {both[0], both[1]};
}

void CrossAttention::AddTo(at::Tensor& sum, const at::Tensor& x, const KeysValues& context) const {
  to_out_.AddTo(sum, heads_(to_q_(x), context.keys, context.values));
}

}  // namespace storyfarm::sdxl
