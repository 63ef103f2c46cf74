#include <ATen/detail/MPSHooksInterface.h>

#include <algorithm>
#include <atomic>

#include "absl/strings/str_cat.h"
#include "pipeline/device/backends.h"
#include "pipeline/device/host.h"

namespace storyfarm::device {
namespace {

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

  absl::Status Cap(uint64_t bytes) override {
    // The high watermark, as a share of the recommended maximum. The low one is set by PYTORCH_MPS_LOW_WATERMARK_RATIO
    // before the start, and may not be above it.
    Hooks().setMemoryFraction(static_cast<double>(bytes) / static_cast<double>(Hooks().getRecommendedMaxMemory()));
    return absl::OkStatus();
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

absl::StatusOr<std::unique_ptr<Device>> OpenMps(int threads) {
  if (!HasMps()) return absl::NotFoundError("this machine has no Apple GPU (mps): use --device cpu");
  return std::make_unique<Mps>(threads);
}

}  // namespace storyfarm::device
