// Operations of UNet and VAE that are one pass over memory where kernels of our own are at hand (cuda/kernels.h), and
// the torch operations that their comments name everywhere else. Both agree but for the order in which float32 is added
// and for roundings between steps, which kernels leave out; tests/pipeline/device/fused_test.cc compares them.
#ifndef STORYFARM_PIPELINE_DEVICE_FUSED_H_
#define STORYFARM_PIPELINE_DEVICE_FUSED_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace storyfarm::device {

// Whether x, a tensor of a network at work, meets kernels: on a CUDA device whose library of kernels is loaded, in half
// precision; an image also channels last. Layers that can put their additions together ask.
bool HasKernels(const at::Tensor& x);

struct Norm {
  const at::Tensor& weight;  // [C]
  const at::Tensor& bias;    // [C]
  double eps;
};

// An image whose channels may lie in two tensors: x [B, C1, H, W] and rest [B, C2, H, W], or rest undefined.
struct Image {
  at::Tensor x, rest;
};
// group_norm(image + shift), or silu of it: [B, C, H, W]. shift [B, C], [1, C] or undefined.
at::Tensor GroupNorm(const Image& image, const at::Tensor& shift, int64_t groups, const Norm& norm, bool silu);

// Over the last axis.
at::Tensor LayerNorm(const at::Tensor& x, const Norm& norm);

// a gelu(b) of [a, b] = linear(x, weight, bias), in the last axis. x [..., in]; weight [2 out, in] -> [..., out].
at::Tensor GatedLinear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// sum += linear(x, weight, bias) in place. x [..., in]; weight [out, in], its rows contiguous; bias may be undefined.
void AddLinear(at::Tensor& sum, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// x += bias [C] + residual, in place, for images [B, C, H, W]. residual may be undefined.
void AddBias(at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual);

// The nearest neighbours in x [B, C, H, W] of the cells of a [B, C, height, width].
at::Tensor Upsample(const at::Tensor& x, int64_t height, int64_t width);

// Tensors [A, B, n, C] one after the other along n, whatever their strides: [A, B, sum of n, C].
at::Tensor JoinRows(const std::vector<at::Tensor>& parts);

// Rows index [M], int64, of x [B, N, C]: [B, M, C].
at::Tensor GatherRows(const at::Tensor& x, const at::Tensor& index);

// Such an index on a device, which goes on with what it has to do meanwhile.
at::Tensor SendIndex(const std::vector<int64_t>& index, at::Device device);

// values x scale: int8 [..., width], contiguous, with one scale [..., 1] for each row, to the scale's format.
at::Tensor Unpack(const at::Tensor& values, const at::Tensor& scale);
// The same to y, contiguous.
void UnpackTo(at::Tensor y, const at::Tensor& values, const at::Tensor& scale);

// The reverse, of x [rows, width]: fills values int8 [rows, width] and scale fp16 [rows, 1], both contiguous. scale =
// the row's largest |x| / 127 as fp16, so that |x - values scale| <= scale / 2 but for what fp16 can't hold; NaN where
// one of the row is.
void Pack(const at::Tensor& x, at::Tensor values, at::Tensor scale);

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_FUSED_H_
