#include <ATen/detail/MPSHooksInterface.h>
#ifdef __APPLE__
#include <ATen/mps/MPSAllocatorInterface.h>
#endif

#include <algorithm>
#include <atomic>
#include <functional>

#include "absl/strings/str_cat.h"
#include "pipeline/device/backends.h"
#include "pipeline/device/host.h"

namespace storyfarm::device {
namespace {

// Of the high one. Below the low watermark Metal's allocator takes heaps of 1 GiB for tensors of 10 MB and more, and what it
// holds is not what a plan counts. A quarter is below any plan that is tight: the weights alone are more.
constexpr double kLowShare = 0.25;
// As good as none; 0 would mean that there is no limit.
constexpr double kLeast = 1e-6;

class Mps final : public Device {
 public:
  explicit Mps(int threads) : threads_(threads) {}

  c10::Device torch_device() const override { return {at::kMPS, 0}; }

  Report Describe(bool measure) override {
    const HostMemory host = ReadHostMemory();
    Report report;
    report.backend = Backend::kMps;
    report.name = ProcessorName();  // "Apple M2": processor and GPU are one chip
    report.total_bytes = host.total_bytes;
    report.recommended_max_bytes = Hooks().getRecommendedMaxMemory();
    report.free_bytes = FreeBytes(host, report.recommended_max_bytes);
    report.unified = true;
    report.threads = threads_;
    report.dtypes = {"fp32", "fp16"};
    report.driver = SystemName();
    if (measure) report.speed_tflops = MeasureMatmul(*this, at::kHalf, 2048);
    return report;
  }

  Memory MemoryNow() override {
    const HostMemory host = ReadHostMemory();
    const uint64_t reserved = Hooks().getDriverAllocatedMemory();
    // Metal keeps no peak: the largest of what was seen when somebody asked.
    uint64_t peak = peak_bytes_.load();
    while (peak < reserved && !peak_bytes_.compare_exchange_weak(peak, reserved)) {
    }
    return {.allocated_bytes = Hooks().getCurrentAllocatedMemory(),
            .reserved_bytes = reserved,
            .peak_bytes = std::max(peak, reserved),
            .free_bytes = FreeBytes(host, Hooks().getRecommendedMaxMemory()),
            .total_bytes = host.total_bytes,
            .pressure = ReadMemoryPressure()};
  }

  void ResetPeak() override { peak_bytes_ = Hooks().getDriverAllocatedMemory(); }
  void EmptyCache() override { Hooks().emptyCache(); }
  void Synchronize() override { Hooks().deviceSynchronize(); }

  absl::Status Cap(uint64_t) override {
    return absl::UnimplementedError("Metal's limit is set as the device is opened");
  }
  std::unique_ptr<TransferSlot> NewTransferSlot() override { return NewCopyingSlot(torch_device()); }
  std::unique_ptr<Landings> NewLandings() override { return NewCopiedLandings(); }

 private:
  static const at::MPSHooksInterface& Hooks() { return at::detail::getMPSHooks(); }
  static uint64_t FreeBytes(const HostMemory& host, uint64_t recommended) {
    const uint64_t held = Hooks().getDriverAllocatedMemory();
    return std::min<uint64_t>(host.free_bytes, recommended - std::min<uint64_t>(recommended, held));
  }

  int threads_;
  std::atomic<uint64_t> peak_bytes_{0};
};

}  // namespace

bool HasMps() { return at::detail::getMPSHooks().hasMPS(); }

absl::StatusOr<std::unique_ptr<Device>> OpenMpsWith(int threads, uint64_t memory_limit_bytes,
                                                    const std::function<void(double)>& set_low) {
  if (!HasMps()) return absl::NotFoundError("this machine has no Apple GPU (mps): use --device cpu");
  const at::MPSHooksInterface& hooks = at::detail::getMPSHooks();
  // Metal's own limit is 1.7 times what it recommends, and the Mac swaps long before that.
  const double share = memory_limit_bytes == 0 ? 1.0
                                               : static_cast<double>(memory_limit_bytes) /
                                                     static_cast<double>(hooks.getRecommendedMaxMemory());
  const double high = std::clamp(share, kLeast, 1.0);
  // In this order the low one is never above the high one, which the allocator refuses, whatever they were.
  set_low(kLeast);
  hooks.setMemoryFraction(high);
  set_low(high * kLowShare);
  return std::make_unique<Mps>(threads);
}

absl::StatusOr<std::unique_ptr<Device>> OpenMps(int threads, uint64_t memory_limit_bytes) {
  return OpenMpsWith(threads, memory_limit_bytes, []([[maybe_unused]] double ratio) {
#ifdef __APPLE__
    at::mps::getIMPSAllocator()->setLowWatermarkRatio(ratio);
#endif
  });
}

}  // namespace storyfarm::device
