// The layers that all of SDXL is made of: thin owners of weights with a call operator. Internal to this folder, and
// copied freely (tensors are references). Whoever calls one that belongs to a block holds the block (weight_stream.h).
#ifndef STORYFARM_PIPELINE_SDXL_LAYERS_H_
#define STORYFARM_PIPELINE_SDXL_LAYERS_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "pipeline/device/fused.h"
#include "pipeline/sdxl/parameter.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

enum class Bias { kNone, kPresent };

// y = x W^T + b over the last axis.
class Linear {
 public:
  Linear() = default;
  Linear(const WeightScope& at, int64_t in, int64_t out, Bias bias = Bias::kPresent);
  at::Tensor operator()(const at::Tensor& x) const { return at::linear(x, weight_.Get(), bias_); }
  // sum += what x gives, in place.
  void AddTo(at::Tensor& sum, const at::Tensor& x) const { device::AddLinear(sum, x, weight_.Get(), bias_); }
  // [a, b] in the last axis of what x gives -> a gelu(b).
  at::Tensor Gated(const at::Tensor& x) const { return device::GatedLinear(x, weight_.Get(), bias_); }
  bool present() const { return weight_.present(); }
  // With another bias [out] in place of its own.
  at::Tensor WithBias(const at::Tensor& x, const at::Tensor& bias) const { return at::linear(x, weight_.Get(), bias); }
  const at::Tensor& bias() const { return bias_; }

 private:
  Parameter weight_;
  at::Tensor bias_;
};

// Several linear layers of one input and equal widths, without biases. On a GPU their weights lie one below the other,
// so that one product computes all; elsewhere each stays in its file.
class LinearStack {
 public:
  LinearStack() = default;
  // `names`: of the layers, below `at`.
  LinearStack(const WeightScope& at, const std::vector<std::string>& names, int64_t in, int64_t out);
  // Of layers [first, first + count): each [..., out], views of one tensor where they are stacked.
  std::vector<at::Tensor> operator()(const at::Tensor& x, int64_t first, int64_t count) const;
  // Whether they are stacked; then also their results side by side, x [B, N, in] -> y [B, N, count x out], whose rows
  // may be some of a larger tensor's.
  bool stacked() const { return stacked_.present(); }
  void To(at::Tensor y, const at::Tensor& x, int64_t first, int64_t count) const;

 private:
  int64_t out_ = 0;
  Parameter stacked_;
  std::vector<Linear> layers_;  // where they are not
};

// Square 2-D convolution over [B, C, H, W].
class Conv2d {
 public:
  Conv2d() = default;
  Conv2d(const WeightScope& at, int64_t in, int64_t out, int64_t kernel, int64_t stride = 1, int64_t padding = 0);
  at::Tensor operator()(const at::Tensor& x) const;
  // For who adds the bias together with something else.
  at::Tensor WithoutBias(const at::Tensor& x) const { return at::conv2d(x, weight_.Get(), {}, stride_, padding_); }
  const at::Tensor& bias() const { return bias_; }  // [out]
  // Of a kernel of one cell: [out, in].
  at::Tensor Matrix() const { return weight_.Get().flatten(1); }

 private:
  Parameter weight_;
  at::Tensor bias_;
  int64_t stride_ = 1, padding_ = 0;
};

class GroupNorm {
 public:
  GroupNorm() = default;
  GroupNorm(const WeightScope& at, int64_t groups, int64_t channels, double eps);
  at::Tensor operator()(const at::Tensor& x) const;
  // silu of the norm of image + shift; shift [B, C], [1, C] or undefined.
  at::Tensor Silu(const device::Image& image, const at::Tensor& shift = {}) const;
  at::Tensor Silu(const at::Tensor& x, const at::Tensor& shift = {}) const { return Silu({x, {}}, shift); }
  int64_t groups() const { return groups_; }
  const at::Tensor& weight() const { return weight_; }  // [C]
  const at::Tensor& bias() const { return bias_; }      // [C]
  double eps() const { return eps_; }

 private:
  at::Tensor weight_, bias_;
  int64_t groups_ = 1;
  double eps_ = 0;
};

// Over the last axis.
class LayerNorm {
 public:
  LayerNorm() = default;
  LayerNorm(const WeightScope& at, int64_t channels, double eps);
  at::Tensor operator()(const at::Tensor& x) const { return device::LayerNorm(x, {weight_, bias_, eps_}); }

 private:
  at::Tensor weight_, bias_;
  double eps_ = 0;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_LAYERS_H_
