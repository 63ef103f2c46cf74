#include "pipeline/device/fused.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdint>
#include <vector>

#include "pipeline/device/cuda/kernels.h"
#include "pipeline/device/kernel_library.h"

namespace storyfarm::device {
namespace {

bool IsHalf(at::ScalarType type) { return type == at::kHalf || type == at::kBFloat16; }

// The kernels for x and others of its network, or null.
const KernelLibrary* KernelsFor(const at::Tensor& x, int64_t channels) {
  if (!x.is_cuda() || !IsHalf(x.scalar_type()) || channels % kVector != 0) return nullptr;
  return LoadedKernels();
}

// `launch(element, stream)` on x's device, whichever the thread's current one is.
template <typename Launch>
void Run(const char* operation, const at::Tensor& x, const Launch& launch) {
  const c10::DeviceGuard guard(x.device());
  const int element = x.scalar_type() == at::kHalf ? kElementHalf : kElementBfloat16;
  const int error = launch(element, c10::impl::VirtualGuardImpl(at::kCUDA).getStream(x.device()).native_handle());
  TORCH_CHECK(error == 0, operation, " failed on the GPU (CUDA error ", error, ")");
}

bool IsChannelsLast(const at::Tensor& x) { return x.is_contiguous(at::MemoryFormat::ChannelsLast); }

at::Tensor PlainGroupNorm(const Image& image, const at::Tensor& shift, int64_t groups, const Norm& norm, bool silu) {
  at::Tensor x = image.rest.defined() ? at::cat({image.x, image.rest}, 1) : image.x;
  if (shift.defined()) x = x + shift.unsqueeze(-1).unsqueeze(-1);
  at::Tensor y = at::group_norm(x, groups, norm.weight, norm.bias, norm.eps);
  return silu ? at::silu_(y) : y;
}

// Whether kernels can move its rows, the last axis, eight elements at a time.
bool HasVectorRows(const at::Tensor& x) {
  bool whole = x.stride(-1) == 1 && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % (2 * kVector) == 0;
  for (int64_t axis = 0; axis + 1 < x.dim(); ++axis) whole = whole && x.stride(axis) % kVector == 0;
  return whole;
}
StoryfarmRows RowsOf(const at::Tensor& x, int64_t outer, int64_t inner, int64_t row, int64_t count) {
  return {x.const_data_ptr(), static_cast<long>(outer), static_cast<long>(inner), static_cast<long>(row),
          static_cast<int>(count)};
}

at::Tensor PlainGate(const at::Tensor& x) {
  const auto halves = x.chunk(2, -1);
  return at::gelu(halves[1]).mul_(halves[0]);
}

}  // namespace

bool HasKernels(const at::Tensor& x) {
  return x.is_cuda() && IsHalf(x.scalar_type()) && (x.dim() != 4 || IsChannelsLast(x)) && LoadedKernels() != nullptr;
}

at::Tensor GroupNorm(const Image& image, const at::Tensor& shift, int64_t groups, const Norm& norm, bool silu) {
  const at::Tensor& x = image.x;
  const int64_t first = x.size(1), channels = first + (image.rest.defined() ? image.rest.size(1) : 0);
  const KernelLibrary* kernels = first % kVector == 0 ? KernelsFor(x, channels) : nullptr;
  const bool images_fit = IsChannelsLast(x) && (!image.rest.defined() || IsChannelsLast(image.rest));
  const bool shift_fits = !shift.defined() || (shift.is_contiguous() && shift.scalar_type() == x.scalar_type());
  if (kernels == nullptr || channels > kMostChannels || !images_fit || groups > kMostGroups || !shift_fits) {
    return PlainGroupNorm(image, shift, groups, norm, silu);
  }
  StoryfarmGroupNorm call{};
  call.batch = static_cast<int>(x.size(0));
  call.cells = static_cast<int>(x.size(2) * x.size(3));
  call.channels = static_cast<int>(channels);
  call.first_channels = static_cast<int>(first);
  call.groups = static_cast<int>(groups);
  at::Tensor y =
      at::empty({x.size(0), channels, x.size(2), x.size(3)}, x.options().memory_format(at::MemoryFormat::ChannelsLast));
  const at::Tensor moments = at::empty(
      {kernels->group_norm_scratch(call.batch, call.cells, call.channels, call.groups)}, x.options().dtype(at::kFloat));
  call.x = x.const_data_ptr();
  call.rest = image.rest.defined() ? image.rest.const_data_ptr() : nullptr;
  call.shift = shift.defined() ? shift.const_data_ptr() : nullptr;
  call.shift_stride = shift.defined() && shift.size(0) > 1 ? call.channels : 0;
  call.weight = norm.weight.const_data_ptr();
  call.bias = norm.bias.const_data_ptr();
  call.y = y.mutable_data_ptr();
  call.moments = moments.mutable_data_ptr<float>();
  call.eps = static_cast<float>(norm.eps);
  call.silu = silu ? 1 : 0;
  Run("a group norm", x, [&](int element, void* stream) { return kernels->group_norm(&call, element, stream); });
  return y;
}

at::Tensor LayerNorm(const at::Tensor& x, const Norm& norm) {
  const int64_t channels = x.size(-1);
  const KernelLibrary* kernels = KernelsFor(x, channels);
  if (kernels == nullptr || channels > kMostChannels || !x.is_contiguous()) {
    return at::layer_norm(x, norm.weight.sizes(), norm.weight, norm.bias, norm.eps);
  }
  at::Tensor y = at::empty_like(x);
  Run("a layer norm", x, [&](int element, void* stream) {
    return kernels->layer_norm(x.const_data_ptr(), norm.weight.const_data_ptr(), norm.bias.const_data_ptr(),
                               y.mutable_data_ptr(), static_cast<int>(x.numel() / channels), static_cast<int>(channels),
                               static_cast<float>(norm.eps), element, stream);
  });
  return y;
}

at::Tensor GatedLinear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const int64_t in = x.size(-1), out = weight.size(0) / 2, rows = x.numel() / in;
  const KernelLibrary* kernels = KernelsFor(x, out);
  if (kernels == nullptr) return PlainGate(at::linear(x, weight, bias));
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = out;
  at::Tensor y = at::empty(shape, x.options());
  const c10::DeviceGuard guard(x.device());
  if (x.is_contiguous() && weight.is_contiguous() &&
      kernels->has_gated_product(static_cast<int>(in), static_cast<int>(out)) != 0) {
    Run("a feed-forward's gate", x, [&](int element, void* stream) {
      return kernels->gated_product(x.const_data_ptr(), weight.const_data_ptr(), bias.const_data_ptr(),
                                    y.mutable_data_ptr(), static_cast<int>(rows), static_cast<int>(in),
                                    static_cast<int>(out), element, stream);
    });
    return y;
  }
  const at::Tensor both = at::linear(x, weight, bias);
  Run("a feed-forward's gate", x, [&](int element, void* stream) {
    return kernels->geglu(both.const_data_ptr(), y.mutable_data_ptr(), static_cast<int>(rows), static_cast<int>(out),
                          element, stream);
  });
  return y;
}

void AddLinear(at::Tensor& sum, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const int64_t in = weight.size(1), out = weight.size(0);
  const KernelLibrary* kernels = in % kVector == 0 ? KernelsFor(x, out) : nullptr;
  if (kernels == nullptr || !sum.is_contiguous() || !x.is_contiguous() || weight.stride(0) % kVector != 0) {
    sum.add_(at::linear(x, weight, bias));
    return;
  }
  const at::Tensor workspace = at::empty({kProductWorkspace}, x.options().dtype(at::kByte));
  StoryfarmAddProduct call{};
  call.x = x.const_data_ptr();
  call.weight = weight.const_data_ptr();
  call.bias = bias.defined() ? bias.const_data_ptr() : nullptr;
  call.sum = sum.mutable_data_ptr();
  call.workspace = workspace.mutable_data_ptr();
  call.rows = static_cast<int>(x.numel() / in);
  call.in = static_cast<int>(in);
  call.out = static_cast<int>(out);
  call.weight_stride = static_cast<int>(weight.stride(0));
  Run("a product", x, [&](int element, void* stream) { return kernels->add_product(&call, element, stream); });
}

void AddBias(at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual) {
  const int64_t channels = x.size(1);
  const KernelLibrary* kernels = KernelsFor(x, channels);
  const bool images_fit = IsChannelsLast(x) && (!residual.defined() || IsChannelsLast(residual));
  if (kernels == nullptr || channels > kMostChannels || !images_fit) {
    x.add_(bias.view({1, channels, 1, 1}));
    if (residual.defined()) x.add_(residual);
    return;
  }
  Run("an addition", x, [&](int element, void* stream) {
    return kernels->add_bias(x.mutable_data_ptr(), bias.const_data_ptr(),
                             residual.defined() ? residual.const_data_ptr() : nullptr, x.numel() / channels,
                             static_cast<int>(channels), element, stream);
  });
}

at::Tensor Upsample(const at::Tensor& x, int64_t height, int64_t width) {
  const int64_t channels = x.size(1);
  const KernelLibrary* kernels = KernelsFor(x, channels);
  if (kernels == nullptr || !IsChannelsLast(x) || height != 2 * x.size(2) || width != 2 * x.size(3)) {
    return at::upsample_nearest2d(x, {height, width});
  }
  at::Tensor y =
      at::empty({x.size(0), channels, height, width}, x.options().memory_format(at::MemoryFormat::ChannelsLast));
  Run("an upsampling", x, [&](int element, void* stream) {
    return kernels->upsample(x.const_data_ptr(), y.mutable_data_ptr(), static_cast<int>(x.size(0)),
                             static_cast<int>(x.size(2)), static_cast<int>(x.size(3)), static_cast<int>(channels),
                             element, stream);
  });
  return y;
}

at::Tensor JoinRows(const std::vector<at::Tensor>& parts) {
  const at::Tensor& first = parts.front();
  const int64_t channels = first.size(3);
  const KernelLibrary* kernels = parts.size() <= kMostParts ? KernelsFor(first, channels) : nullptr;
  std::vector<StoryfarmRows> rows;
  int64_t total = 0;
  for (const at::Tensor& part : parts) {
    if (!HasVectorRows(part)) kernels = nullptr;
    rows.push_back(RowsOf(part, part.stride(0), part.stride(1), part.stride(2), part.size(2)));
    total += part.size(2);
  }
  if (kernels == nullptr) return at::cat(parts, 2);
  at::Tensor y = at::empty({first.size(0), first.size(1), total, channels}, first.options());
  Run("joining rows", first, [&](int element, void* stream) {
    return kernels->join_rows(rows.data(), static_cast<int>(rows.size()), y.mutable_data_ptr(),
                              static_cast<int>(first.size(0)), static_cast<int>(first.size(1)),
                              static_cast<int>(channels), element, stream);
  });
  return y;
}

at::Tensor GatherRows(const at::Tensor& x, const at::Tensor& index) {
  const int64_t channels = x.size(2), count = index.numel();
  const KernelLibrary* kernels = KernelsFor(x, channels);
  if (kernels == nullptr || !HasVectorRows(x) || !index.is_contiguous() || count == 0) return x.index_select(1, index);
  at::Tensor y = at::empty({x.size(0), count, channels}, x.options());
  const StoryfarmRows rows = RowsOf(x, x.stride(0), 0, x.stride(1), x.size(1));
  static_assert(sizeof(long) == sizeof(int64_t));
  Run("gathering rows", x, [&](int element, void* stream) {
    return kernels->gather_rows(&rows, static_cast<const long*>(index.const_data_ptr()), y.mutable_data_ptr(),
                                static_cast<int>(x.size(0)), static_cast<int>(count), static_cast<int>(channels),
                                element, stream);
  });
  return y;
}

at::Tensor SendIndex(const std::vector<int64_t>& index, at::Device device) {
  const at::Tensor here = at::tensor(index, at::kLong);
  // From pageable memory a copy would wait until the device is idle.
  return device.is_cuda() ? here.pin_memory().to(device, /*non_blocking=*/true) : here.to(device);
}

at::Tensor Unpack(const at::Tensor& values, const at::Tensor& scale) {
  at::Tensor y = at::empty(values.sizes(), scale.options());
  UnpackTo(y, values, scale);
  return y;
}

void UnpackTo(at::Tensor y, const at::Tensor& values, const at::Tensor& scale) {
  const int64_t width = values.size(-1);
  const KernelLibrary* kernels = KernelsFor(scale, width);
  if (values.numel() == 0) return;
  if (kernels == nullptr || !values.is_contiguous() || !scale.is_contiguous()) {
    y.copy_(values).mul_(scale);
    return;
  }
  Run("unpacking int8", scale, [&](int element, void* stream) {
    return kernels->unpack(static_cast<const int8_t*>(values.const_data_ptr()), scale.const_data_ptr(),
                           y.mutable_data_ptr(), static_cast<long>(scale.numel()), static_cast<int>(width), element,
                           stream);
  });
}

void Pack(const at::Tensor& x, at::Tensor values, at::Tensor scale) {
  const KernelLibrary* kernels = KernelsFor(x, x.size(-1));
  if (x.numel() == 0) return;
  if (kernels != nullptr && x.is_contiguous()) {
    return Run("packing to int8", x, [&](int element, void* stream) {
      return kernels->pack(x.const_data_ptr(), static_cast<int8_t*>(values.mutable_data_ptr()),
                           scale.mutable_data_ptr(), static_cast<int>(x.size(0)), static_cast<int>(x.size(1)), element,
                           stream);
    });
  }
  constexpr double kMost = 127;
  constexpr double kLargestFp16 = 65504;
  constexpr double kLeastScale = 6.103515625e-5;  // the smallest normal fp16: no division by zero, no lost bits
  const at::Tensor exact = x.to(at::kFloat);
  const at::Tensor rounded =
      (exact.abs().amax(1, /*keepdim=*/true) / kMost).clamp(kLeastScale, kLargestFp16).to(at::kHalf);
  scale.copy_(rounded);
  values.copy_((exact / rounded.to(at::kFloat)).round_().clamp_(-kMost, kMost));
}

}  // namespace storyfarm::device
