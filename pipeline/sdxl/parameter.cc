#include "pipeline/sdxl/parameter.h"

#include <algorithm>

namespace storyfarm::sdxl {
namespace {

constexpr double kLargest = 127;
// A channel of zeros: any scale will do but none.
constexpr double kLeastScale = 1e-12;
// Elements rounded at a time, in float32: 16 MiB.
constexpr int64_t kElementsAtATime = int64_t{1} << 22;

}  // namespace

at::Tensor Parameter::Get() const {
  if (!slot_->scale.defined()) return slot_->values;
  // On a GPU one kernel converts and multiplies; the CPU would convert to a copy first, and multiply to another.
  if (slot_->values.is_cuda()) return at::mul(slot_->values, slot_->scale);
  return slot_->values.to(slot_->scale.scalar_type()).mul_(slot_->scale);
}

Parameter::Slot ToInt8(const at::Tensor& values, at::ScalarType computing) {
  Parameter::Slot slot;
  slot.values = at::empty_like(values, values.options().dtype(at::kChar));
  std::vector<int64_t> per_channel(static_cast<size_t>(values.dim()), 1);
  per_channel[0] = values.size(0);
  slot.scale = at::empty(per_channel, values.options().dtype(computing));
  std::vector<int64_t> inner;
  for (int64_t d = 1; d < values.dim(); ++d) inner.push_back(d);
  const int64_t rows = std::max<int64_t>(1, kElementsAtATime / std::max<int64_t>(1, values.numel() / values.size(0)));
  for (int64_t row = 0; row < values.size(0); row += rows) {
    const int64_t count = std::min(rows, values.size(0) - row);
    at::Tensor part = values.narrow(0, row, count).to(at::kFloat);
    // Rounded to what Get multiplies with before it divides here.
    const at::Tensor scale =
        part.abs().amax(inner, /*keepdim=*/true).div_(kLargest).clamp_min_(kLeastScale).to(computing);
    slot.scale.narrow(0, row, count).copy_(scale);
    part = part.div(scale.to(at::kFloat).clamp_min(kLeastScale));
    slot.values.narrow(0, row, count).copy_(part.round_().clamp_(-kLargest, kLargest));
  }
  return slot;
}

}  // namespace storyfarm::sdxl
