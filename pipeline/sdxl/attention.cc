#include "pipeline/sdxl/attention.h"

#include <algorithm>

namespace storyfarm::sdxl {

Attention::Attention(const WeightScope& at, int64_t query_channels, int64_t context_channels, int64_t heads,
                     bool upcast, const AttentionOptions* options)
    : channels_(query_channels),
      heads_(heads),
      upcast_(upcast),
      options_(options),
      to_q_(at / "to_q", query_channels, query_channels, Bias::kNone),
      to_k_(at / "to_k", context_channels, query_channels, Bias::kNone),
      to_v_(at / "to_v", context_channels, query_channels, Bias::kNone),
      to_out_(at / "to_out" / 0, query_channels, query_channels) {}

at::Tensor Attention::Attend(const at::Tensor& q_input, const at::Tensor& kv_input) const {
  const int64_t batch = q_input.size(0), queries = q_input.size(1);
  auto by_head = [&](const at::Tensor& x) {  // [B, T, C] -> [B, heads, T, C / heads], a view
    at::Tensor y = x.view({x.size(0), x.size(1), heads_, channels_ / heads_}).transpose(1, 2);
    return upcast_ ? y.to(at::kFloat) : y;
  };
  const at::Tensor q = by_head(to_q_(q_input));
  const at::Tensor k = by_head(to_k_(kv_input));
  const at::Tensor v = by_head(to_v_(kv_input));

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
  return to_out_(y.transpose(1, 2).reshape({batch, queries, channels_}).to(q_input.scalar_type()));
}

}  // namespace storyfarm::sdxl
