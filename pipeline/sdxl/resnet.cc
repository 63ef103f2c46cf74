#include "pipeline/sdxl/resnet.h"

#include <utility>

#include "pipeline/device/fused.h"

namespace storyfarm::sdxl {
namespace {

at::Tensor Sum(const at::Tensor& a, const at::Tensor& b) { return !b.defined() ? a : !a.defined() ? b : a + b; }

}  // namespace

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
  first_bias_ = scale_shift_ ? conv1_.bias() : Sum(conv1_.bias(), time_projection_.bias());
  last_bias_ = Sum(conv2_.bias(), shortcut_.bias());
}

at::Tensor ResnetBlock::operator()(device::Image image, const at::Tensor& time) const {
  const auto lease = weights_.Hold();
  if (!scale_shift_ && output_scale_ == 1 && device::HasKernels(image.x)) return Fused(image, time);
  const at::Tensor x = image.rest.defined() ? at::cat({image.x, image.rest}, 1) : image.x;
  image = {};  // its parts may go
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

at::Tensor ResnetBlock::Fused(const device::Image& image, const at::Tensor& time) const {
  at::Tensor h = conv1_.WithoutBias(norm1_.Silu(image));
  h = norm2_.Silu(h,
                  time_projection_.present() ? time_projection_.WithBias(time, first_bias_) : first_bias_.unsqueeze(0));
  h = conv2_.WithoutBias(h);
  if (!has_shortcut_) {
    device::AddBias(h, last_bias_, image.x);
    return h;
  }
  // Cell by cell, the shortcut is a product with each part of the image.
  const auto cells = [](const at::Tensor& of) { return of.permute({0, 2, 3, 1}).flatten(0, 2); };
  at::Tensor sum = cells(h);
  const at::Tensor weight = shortcut_.Matrix();
  const int64_t first = image.x.size(1);
  device::AddLinear(sum, cells(image.x), weight.narrow(1, 0, first), last_bias_);
  if (image.rest.defined()) {
    device::AddLinear(sum, cells(image.rest), weight.narrow(1, first, weight.size(1) - first), {});
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
  return conv_(device::Upsample(x, height, width));
}

}  // namespace storyfarm::sdxl
