#include "pipeline/sdxl/layers.h"

namespace storyfarm::sdxl {

Linear::Linear(const WeightScope& at, int64_t in, int64_t out, Bias bias)
    : weight_(at.TakeParameter("weight", {out, in})) {
  if (bias == Bias::kPresent) bias_ = at.Take("bias", {out});
}

Conv2d::Conv2d(const WeightScope& at, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding)
    : weight_(at.TakeParameter("weight", {out, in, kernel, kernel})),
      bias_(at.Take("bias", {out})),
      stride_(stride),
      padding_(padding) {}

GroupNorm::GroupNorm(const WeightScope& at, int64_t groups, int64_t channels, double eps)
    : weight_(at.Take("weight", {channels})), bias_(at.Take("bias", {channels})), groups_(groups), eps_(eps) {}

LayerNorm::LayerNorm(const WeightScope& at, int64_t channels, double eps)
    : weight_(at.Take("weight", {channels})), bias_(at.Take("bias", {channels})), eps_(eps) {}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  return at::layer_norm(x, weight_.sizes(), weight_, bias_, eps_);
}

}  // namespace storyfarm::sdxl
