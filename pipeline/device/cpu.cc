#include <algorithm>
#include <cstdlib>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "pipeline/device/backends.h"
#include "pipeline/device/block_cache.h"
#include "pipeline/device/host.h"

namespace storyfarm::device {
namespace {

// Counted in a planner's workspace of a processor (plan/traits.cc).
constexpr size_t kMostIdleBytes = 8 << 20;

class Cpu final : public Device {
 public:
  explicit Cpu(int threads) : threads_(threads) {
    const ProcessMemory process = ReadProcessMemory();
    own_bytes_at_open_ = process.resident_bytes - std::min(process.resident_bytes, process.file_bytes);
  }

  c10::Device torch_device() const override { return at::kCPU; }

  Report Describe(bool measure) override {
    const HostMemory memory = ReadHostMemory();
    Report report;
    report.backend = Backend::kCpu;
    report.name = ProcessorName();
    report.total_bytes = memory.total_bytes;
    report.free_bytes = memory.free_bytes;
    report.unified = true;
    report.recommended_max_bytes = memory.limit_bytes;
    report.threads = threads_;
    report.dtypes = {"fp32"};
    report.driver = SystemName();
    if (measure) report.speed_tflops = MeasureMatmul(*this, at::kFloat, 1024);
    return report;
  }

  Memory MemoryNow() override {
    const HostMemory host = ReadHostMemory();
    const ProcessMemory process = ReadProcessMemory();
    // Pages of libraries are touched the first time that their code runs, and stay.
    return {.allocated_bytes = process.resident_bytes,
            .reserved_bytes = process.resident_bytes,
            .peak_bytes = process.peak_bytes,
            .overhead_bytes = std::min(process.peak_bytes, own_bytes_at_open_ + process.file_bytes),
            .free_bytes = host.free_bytes,
            .total_bytes = host.limit_bytes > 0 ? host.limit_bytes : host.total_bytes,
            .pressure = ReadMemoryPressure()};
  }

  void ResetPeak() override { ResetProcessPeak(); }
  void KeepIdleBlocks(bool keep) override { ReuseTensorBlocks(keep ? kMostIdleBytes : 0); }
  void EmptyCache() override {
    ReleaseIdleTensorBlocks();
#ifdef __GLIBC__
    malloc_trim(0);
#endif
  }
  void Synchronize() override {}
  absl::Status Cap(uint64_t) override {
    return absl::UnimplementedError("the CPU's memory is the process's: a control group limits it");
  }
  std::unique_ptr<TransferSlot> NewTransferSlot() override { return NewHostSlot(); }
  std::unique_ptr<Landings> NewLandings() override { return NewCopiedLandings(); }

 private:
  int threads_;
  uint64_t own_bytes_at_open_;  // that were no file's: relocated tables, what libraries register
};

}  // namespace

std::unique_ptr<Device> OpenCpu(int threads) { return std::make_unique<Cpu>(threads); }

}  // namespace storyfarm::device
