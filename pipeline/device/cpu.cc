#include "pipeline/device/backends.h"
#include "pipeline/device/host.h"

namespace storyfarm::device {
namespace {

class Cpu final : public Device {
 public:
  explicit Cpu(int threads) : threads_(threads) {}

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
    return {process.resident_bytes, process.resident_bytes, process.peak_bytes, host.free_bytes,
            host.limit_bytes > 0 ? host.limit_bytes : host.total_bytes, ReadMemoryPressure()};
  }

  void ResetPeak() override { ResetProcessPeak(); }
  void EmptyCache() override {}
  void Synchronize() override {}
  absl::Status Cap(uint64_t) override {
    return absl::UnimplementedError("the CPU's memory is capped by a control group or container, not by the program");
  }
  std::unique_ptr<TransferSlot> NewTransferSlot() override { return NewHostSlot(); }

 private:
  int threads_;
};

}  // namespace

std::unique_ptr<Device> OpenCpu(int threads) { return std::make_unique<Cpu>(threads); }

}  // namespace storyfarm::device
