#include "pipeline/sdxl/resnet.h"

#include <utility>

#include "pipeline/device/fused.h"

namespace storyfarm::sdxl {

ResnetBlock::ResnetBlock(const WeightScope& at, int64_t in, int64_t out, const ResnetOptions& options)
    : weights_(at.block()),
      norm1_(at / "norm1", options.groups, in, options.eps),
      conv1_(at / "conv1", in, out, 3, 1, 1),
      norm2_(at / "norm2", options.groups, out, options.eps),
      conv2_(at / "conv2", out, out, 3, 1, 1),
      has_shortcut_(in != out),
      scale_shift_(options.scale_shift),
      output_scale_(options.output_scale) {
  if (options.time_channels > 0) {
    time_projection_ = Linear(at / "time_emb_proj", options.time_channels, scale_shift_ ? 2 * out : out);
  }
  if (has_shortcut_) shortcut_ = Conv2d(at / "conv_shortcut", in, out, 1);
}

at::Tensor ResnetBlock::operator()(const at::Tensor& x, const at::Tensor& time) const {
  const auto lease = weights_.Hold();
  if (!scale_shift_ && output_scale_ == 1 && device::HasKernels(x)) return Fused(x, time);
  at::Tensor h = AfterNorm1(norm1_(x));
  if (!time_projection_.present()) {
    h = norm2_(h);
  } else {
    const at::Tensor shift = time_projection_(time).unsqueeze(-1).unsqueeze(-1);
    if (scale_shift_) {
      const auto halves = shift.chunk(2, 1);
      h = norm2_(h);
      h.mul_(1 + halves[0]).add_(halves[1]);
    } else {
      h = norm2_(h.add_(shift));
    }
  }
  return AfterNorm2(std::move(h), x);
}

at::Tensor ResnetBlock::Fused(const at::Tensor& x, const at::Tensor& time) const {
  at::Tensor h = conv1_.WithoutBias(norm1_.Silu(x));
  const at::Tensor bias = conv1_.bias().unsqueeze(0);
  h = norm2_.Silu(h, time_projection_.present() ? time_projection_(time).add_(bias) : bias);
  h = conv2_.WithoutBias(h);
  if (has_shortcut_) {
    device::AddBias(h, conv2_.bias() + shortcut_.bias(), shortcut_.WithoutBias(x));
  } else {
    device::AddBias(h, conv2_.bias(), x);
  }
  return h;
}

at::Tensor ResnetBlock::AfterNorm2(at::Tensor normed, const at::Tensor& x) const {
  at::Tensor h = conv2_(at::silu_(normed));
  h.add_(has_shortcut_ ? shortcut_(x) : x);
  return output_scale_ == 1 ? h : h.div_(output_scale_);
}

Downsample::Downsample(const WeightScope& at, int64_t channels, int64_t padding)
    : weights_(at.block()), conv_(at / "conv", channels, channels, 3, 2, padding), pad_end_(padding == 0) {}

at::Tensor Downsample::operator()(const at::Tensor& x) const {
  const auto lease = weights_.Hold();
  return conv_(pad_end_ ? at::constant_pad_nd(x, {0, 1, 0, 1}) : x);
}

Upsample::Upsample(const WeightScope& at, int64_t channels)
    : weights_(at.block()), conv_(at / "conv", channels, channels, 3, 1, 1) {}

at::Tensor Upsample::operator()(const at::Tensor& x, int64_t height, int64_t width) const {
  const auto lease = weights_.Hold();
  return conv_(at::upsample_nearest2d(x, {height, width}));
}

}  // namespace storyfarm::sdxl
