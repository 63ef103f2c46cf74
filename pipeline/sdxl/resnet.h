// What UNet and VAE share: the residual block and the changes of resolution. Internal to this folder. Each holds the
// block of weights in whose scope it was built while it runs.
#ifndef STORYFARM_PIPELINE_SDXL_RESNET_H_
#define STORYFARM_PIPELINE_SDXL_RESNET_H_

#include <ATen/ATen.h>

#include <cstdint>

#include "pipeline/device/fused.h"
#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

struct ResnetOptions {
  int64_t groups = 32;
  double eps = 1e-5;
  int64_t time_channels = 0;  // 0: no time embedding (VAE)
  bool scale_shift = false;   // the time embedding scales and shifts the second norm's output, instead of being added
  double output_scale = 1;    // the sum of block and shortcut is divided by it
};

// ResnetBlock2D: [B, in, H, W] -> [B, out, H, W].
class ResnetBlock {
 public:
  ResnetBlock(const WeightScope& at, int64_t in, int64_t out, const ResnetOptions& options);
  // `time`: silu of the time embedding, [B, time_channels]; undefined where the block has none. x may lie in two
  // tensors.
  at::Tensor operator()(device::Image image, const at::Tensor& time) const;
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& time) const {
    return (*this)(device::Image{x, {}}, time);
  }

  // A block without time in the pieces around its norms, for who normalises otherwise: block(x, {}) is
  // AfterNorm2(norm2(AfterNorm1(norm1(x))), x). `normed` is overwritten.
  const GroupNorm& norm1() const { return norm1_; }
  const GroupNorm& norm2() const { return norm2_; }
  at::Tensor AfterNorm1(at::Tensor normed) const { return conv1_(at::silu_(normed)); }
  at::Tensor AfterNorm2(at::Tensor normed, const at::Tensor& x) const;
  bool changes_channels() const { return has_shortcut_; }

 private:
  // Where kernels add biases together with what is added anyway, and shortcuts as they are made.
  at::Tensor Fused(const device::Image& image, const at::Tensor& time) const;

  WeightBlock weights_;
  GroupNorm norm1_;
  Conv2d conv1_;
  Linear time_projection_;
  GroupNorm norm2_;
  Conv2d conv2_;
  Conv2d shortcut_;
  bool has_shortcut_;
  // Of what Fused adds up: conv1 and the time projection, conv2 and the shortcut. [out]
  at::Tensor first_bias_, last_bias_;
  bool scale_shift_;
  double output_scale_;
};

// Halves the resolution (rounding up) by a convolution of stride 2.
class Downsample {
 public:
  // `padding` 1 pads all sides (UNet); 0 pads right and bottom by one (VAE).
  Downsample(const WeightScope& at, int64_t channels, int64_t padding);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  WeightBlock weights_;
  Conv2d conv_;
  bool pad_end_;
};

// Nearest neighbour to [height, width], then a convolution.
class Upsample {
 public:
  Upsample(const WeightScope& at, int64_t channels);
  at::Tensor operator()(const at::Tensor& x, int64_t height, int64_t width) const;

 private:
  WeightBlock weights_;
  Conv2d conv_;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_RESNET_H_
