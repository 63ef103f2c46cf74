#include "pipeline/sdxl/layers.h"

namespace storyfarm::sdxl {

Linear::Linear(const WeightScope& at, int64_t in, int64_t out, Bias bias)
    : weight_(at.TakeParameter("weight", {out, in})) {
  if (bias == Bias::kPresent) bias_ = at.Take("bias", {out});
}

LinearStack::LinearStack(const WeightScope& at, const std::vector<std::string>& names, int64_t in, int64_t out)
    : out_(out) {
  if (!at.weights()->placement().device.is_cuda()) {
    for (const std::string& name : names) layers_.emplace_back(at / name, in, out, Bias::kNone);
    return;
  }
  std::vector<std::string> weights;
  for (const std::string& name : names) weights.push_back(name + ".weight");
  stacked_ = at.TakeStack(weights, {out, in});
}

std::vector<at::Tensor> LinearStack::operator()(const at::Tensor& x, int64_t first, int64_t count) const {
  if (stacked_.present()) return at::linear(x, stacked_.Get().narrow(0, first * out_, count * out_)).chunk(count, -1);
  std::vector<at::Tensor> results;
  for (int64_t i = first; i < first + count; ++i) results.push_back(layers_.at(static_cast<size_t>(i))(x));
  return results;
}

void LinearStack::To(at::Tensor y, const at::Tensor& x, int64_t first, int64_t count) const {
  const at::Tensor weights = stacked_.Get().narrow(0, first * out_, count * out_);
  at::bmm_out(y, x, weights.t().expand({x.size(0), -1, -1}));
}

Conv2d::Conv2d(const WeightScope& at, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding)
    : weight_(at.TakeParameter("weight", {out, in, kernel, kernel})),
      bias_(at.Take("bias", {out})),
      stride_(stride),
      padding_(padding) {}

at::Tensor Conv2d::operator()(const at::Tensor& x) const {
  if (!device::HasKernels(x)) return at::conv2d(x, weight_.Get(), bias_, stride_, padding_);
  at::Tensor y = WithoutBias(x);
  device::AddBias(y, bias_, {});
  return y;
}

GroupNorm::GroupNorm(const WeightScope& at, int64_t groups, int64_t channels, double eps)
    : weight_(at.Take("weight", {channels})), bias_(at.Take("bias", {channels})), groups_(groups), eps_(eps) {}

at::Tensor GroupNorm::operator()(const at::Tensor& x) const {
  return device::GroupNorm({x, {}}, {}, groups_, {weight_, bias_, eps_}, /*silu=*/false);
}

at::Tensor GroupNorm::Silu(const device::Image& image, const at::Tensor& shift) const {
  return device::GroupNorm(image, shift, groups_, {weight_, bias_, eps_}, /*silu=*/true);
}

LayerNorm::LayerNorm(const WeightScope& at, int64_t channels, double eps)
    : weight_(at.Take("weight", {channels})), bias_(at.Take("bias", {channels})), eps_(eps) {}

}  // namespace storyfarm::sdxl
