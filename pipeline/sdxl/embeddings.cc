#include "pipeline/sdxl/embeddings.h"

#include <cmath>

namespace storyfarm::sdxl {
namespace {

constexpr double kLongestPeriod = 10000;

}  // namespace

Sinusoids::Sinusoids(int64_t channels, bool cosine_first, double frequency_shift, at::Device device)
    : channels_(channels), cosine_first_(cosine_first) {
  const int64_t half = channels / 2;
  // On the CPU in float32, in diffusers' order of operations: at timestep 1000 one bit of a frequency shows.
  frequencies_ = at::arange(half, at::kFloat)
                     .mul(-std::log(kLongestPeriod))
                     .div(static_cast<double>(half) - frequency_shift)
                     .exp()
                     .to(device);
}

at::Tensor Sinusoids::operator()(const at::Tensor& values) const {
  const at::Tensor angles = values.unsqueeze(-1) * frequencies_;
  const at::Tensor sines = angles.sin(), cosines = angles.cos();
  at::Tensor y = cosine_first_ ? at::cat({cosines, sines}, -1) : at::cat({sines, cosines}, -1);
  return channels_ % 2 == 0 ? y : at::constant_pad_nd(y, {0, 1});
}

EmbeddingMlp::EmbeddingMlp(const WeightScope& at, int64_t in, int64_t out)
    : linear1_(at / "linear_1", in, out), linear2_(at / "linear_2", out, out) {}

at::Tensor EmbeddingMlp::operator()(const at::Tensor& x) const {
  at::Tensor h = linear1_(x);
  return linear2_(at::silu_(h));
}

}  // namespace storyfarm::sdxl
