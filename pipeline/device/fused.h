// Operations of UNet and VAE that are one pass over memory where kernels of our own are at hand (cuda/kernels.h), and
// the torch operations that their comments name everywhere else. Both agree but for the order in which float32 is added
// and for roundings between steps, which kernels leave out; tests/pipeline/device/fused_test.cc compares them.
#ifndef STORYFARM_PIPELINE_DEVICE_FUSED_H_
#define STORYFARM_PIPELINE_DEVICE_FUSED_H_

#include <ATen/ATen.h>

#include <cstdint>

namespace storyfarm::device {

// Whether x, a tensor of a network at work, meets kernels: on a CUDA device whose library of kernels is loaded, in half
// precision; an image also channels last. Layers that can put their additions together ask.
bool HasKernels(const at::Tensor& x);

struct Norm {
  const at::Tensor& weight;  // [C]
  const at::Tensor& bias;    // [C]
  double eps;
};

// group_norm(x + shift), or silu of it. x [B, C, H, W]; shift [B, C], [1, C] or undefined.
at::Tensor GroupNorm(const at::Tensor& x, const at::Tensor& shift, int64_t groups, const Norm& norm, bool silu);

// h += y in place, then layer_norm(h) over the last axis. y undefined: the norm alone.
at::Tensor AddLayerNorm(at::Tensor& h, const at::Tensor& y, const Norm& norm);

// [a, b] in the last axis -> a gelu(b).
at::Tensor Geglu(const at::Tensor& x);

// x += bias [C] + residual, in place, for images [B, C, H, W].
void AddBias(at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual);

// values x scale: int8 [..., width], contiguous, with one scale [..., 1] for each row, to the scale's format.
at::Tensor Unpack(const at::Tensor& values, const at::Tensor& scale);

// The reverse, of x [rows, width]: fills values int8 [rows, width] and scale fp16 [rows, 1], both contiguous. scale =
// the row's largest |x| / 127 as fp16, so that |x - values scale| <= scale / 2 but for what fp16 can't hold; NaN where
// one of the row is.
void Pack(const at::Tensor& x, at::Tensor values, at::Tensor scale);

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_FUSED_H_
