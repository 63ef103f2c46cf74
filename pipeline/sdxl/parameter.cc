#include "pipeline/sdxl/parameter.h"

#include <algorithm>

#include "pipeline/device/fused.h"
#include "pipeline/model/int8.h"

namespace storyfarm::sdxl {
namespace {

constexpr double kLargest = 127;
// A group of zeros: any scale will do but none.
constexpr double kLeastScale = 1e-12;
// Elements rounded at a time, in float32: 16 MiB.
constexpr int64_t kElementsAtATime = int64_t{1} << 22;

}  // namespace

at::Tensor Parameter::Get() const {
  const Slot& slot = *slot_;
  if (!slot.scale.defined()) return slot.values;
  const at::Tensor y = device::Unpack(slot.values, slot.scale);
  const std::vector<int64_t>& shape = slot.shape;
  return slot.channels_last ? y.view({shape[0], shape[2], shape[3], shape[1]}).permute({0, 3, 1, 2}) : y.view(shape);
}

uint64_t Int8Bytes(const at::Tensor& values, at::ScalarType computing) {
  const int64_t weights = values.numel() / std::max<int64_t>(1, values.size(0));
  const auto scales = static_cast<uint64_t>(values.numel() / model::Int8Group(weights));
  return static_cast<uint64_t>(values.numel()) + scales * c10::elementSize(computing);
}

Parameter::Slot ToInt8(const at::Tensor& values, at::ScalarType computing) {
  Parameter::Slot slot;
  slot.shape = values.sizes().vec();
  slot.channels_last = values.dim() == 4 && !values.is_contiguous() &&
                       values.is_contiguous(at::MemoryFormat::ChannelsLast);
  const int64_t channels = values.size(0), weights = values.numel() / std::max<int64_t>(1, channels);
  const int64_t group = model::Int8Group(weights);
  const at::Tensor rows = (slot.channels_last ? values.permute({0, 2, 3, 1}) : values).reshape({channels, -1, group});
  slot.values = at::empty(rows.sizes(), values.options().dtype(at::kChar));
  slot.scale = at::empty({channels, rows.size(1), 1}, values.options().dtype(computing));
  const int64_t at_a_time = std::max<int64_t>(1, kElementsAtATime / weights);
  for (int64_t first = 0; first < channels; first += at_a_time) {
    const int64_t count = std::min(at_a_time, channels - first);
    const at::Tensor part = rows.narrow(0, first, count).to(at::kFloat);
    // Rounded to what Get multiplies with before it divides here.
    const at::Tensor scale = part.abs().amax(2, /*keepdim=*/true).div_(kLargest).to(computing);
    slot.scale.narrow(0, first, count).copy_(scale);
    const at::Tensor steps = part / scale.to(at::kFloat).clamp_min(kLeastScale);
    slot.values.narrow(0, first, count).copy_(steps.round().clamp(-kLargest, kLargest));
  }
  return slot;
}

}  // namespace storyfarm::sdxl
