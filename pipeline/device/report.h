// What a device says of itself and of its memory: plain structs, free of torch.
#ifndef STORYFARM_PIPELINE_DEVICE_REPORT_H_
#define STORYFARM_PIPELINE_DEVICE_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace storyfarm::device {

enum class Backend { kCpu, kCuda, kMps };

struct Report {
  Backend backend = Backend::kCpu;
  int ordinal = 0;   // among the machine's devices of this backend: cuda:1 has 1
  std::string name;  // "NVIDIA H100 80GB HBM3", "Apple M2", "AMD EPYC 7B13"
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;             // at the time of the report
  bool unified = false;                // device and host share this memory
  uint64_t recommended_max_bytes = 0;  // working set that the backend advises (MPS), cgroup limit (CPU); 0: none
  double speed_tflops = 0;             // measured matmul in the backend's preferred dtype, TFLOP/s; 0: not measured
  uint64_t host_to_device_bytes_per_s = 0;  // measured copy from pageable memory; 0: not measured or none needed
  int threads = 0;                          // CPU threads that an engine on this device may use
  std::vector<std::string> dtypes;          // "fp32", "fp16", "bf16": those it computes in at a useful speed
  std::string driver;                       // driver and compute capability, for people
};

// Memory of one device now. On the CPU `allocated` and `reserved` are the process's resident bytes, with overhead.
struct Memory {
  uint64_t allocated_bytes = 0;  // live tensors
  uint64_t reserved_bytes = 0;   // held from the system by this process
  uint64_t peak_bytes = 0;       // most reserved since the last ResetPeak
  uint64_t overhead_bytes = 0;   // of those: libraries and their tables, whatever is rendered; a CUDA context is not
  uint64_t free_bytes = 0;       // of the device, for anybody
  uint64_t total_bytes = 0;
};

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_REPORT_H_
