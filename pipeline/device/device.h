// pipeline/device: CUDA, MPS and CPU behind one interface. For pipeline/render, which asks how much memory there is,
// limits and measures it, and does not know which of the three it runs on.
//
//   Open("cuda:0") --> Device --> report.h (plain structs, which leave through render/request.h)
//                        +-----> transfer.h, landing.h (bytes to the device and back, beside its computing)
//                        +-----> graph.h (work that is launched once and done many times)
//
//   fused.h: operations in one pass over memory, where kernels of our own are at hand (cuda/)
//
// One binary serves machines with and without CUDA: nothing here links or includes it. libtorch_cuda.so, where it lies
// beside libtorch_cpu.so, is loaded when a driver is there, before torch first looks for it (it looks once). Memory
// figures come through c10::DeviceAllocator, names and versions from the driver's own library.
#ifndef STORYFARM_PIPELINE_DEVICE_DEVICE_H_
#define STORYFARM_PIPELINE_DEVICE_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/device/report.h"

namespace c10 {
struct Device;
}

namespace storyfarm::device {

class Landings;
class TransferSlot;

// One device of this machine. MemoryNow and Report(false) from any thread, the rest from the thread that computes. May
// throw c10::Error where the backend fails.
class Device {
 public:
  // `name`: "cpu", "mps", "cuda" or "cuda:1". `threads`: CPU threads of the whole process; 0: AvailableThreads().
  // `memory_limit_bytes`: the most that this process may hold of the device, allocations beyond it fail as out of
  // memory; 0: all of it, on MPS what Metal recommends, which no limit raises. Of no effect on the CPU, where a cgroup
  // is the way, and on a CUDA device where this process has opened one before, since its allocator asks once.
  // INVALID_ARGUMENT: no such name. NOT_FOUND: this machine has no such device; says why.
  static absl::StatusOr<std::unique_ptr<Device>> Open(const std::string& name, int threads,
                                                      uint64_t memory_limit_bytes = 0);
  virtual ~Device() = default;

  virtual c10::Device torch_device() const = 0;
  // With `measure`, also speed and copy rate: about a second.
  virtual Report Describe(bool measure) = 0;
  virtual Memory MemoryNow() = 0;
  virtual void ResetPeak() = 0;
  // Gives memory that no tensor uses back to the system.
  virtual void EmptyCache() = 0;
  // Whether blocks that were freed wait for the next tensors, where the device's allocator does not do so by itself: a
  // few MB for less time in the system.
  virtual void KeepIdleBlocks(bool /*keep*/) {}
  // Waits for everything that was launched.
  virtual void Synchronize() = 0;
  // The most that this process may hold of the device from now on, within its limit; allocations beyond it fail as out
  // of memory. UNIMPLEMENTED on the CPU, where a cgroup is the way, on MPS, whose allocator works within two marks of
  // which only one can be moved without the other, and where the library of kernels is missing.
  virtual absl::Status Cap(uint64_t bytes) = 0;
  // A buffer that travels to the device while it computes (transfer.h). The device outlives it.
  virtual std::unique_ptr<TransferSlot> NewTransferSlot() = 0;
  // The other way (landing.h).
  virtual std::unique_ptr<Landings> NewLandings() = 0;
};

// Every device of this machine: CUDA devices, MPS, the CPU last. One that can't be reached is left out.
std::vector<Report> DescribeAll(bool measure, int threads);

// Processors that this process may use: the least of those online, its affinity and its cgroup's quota, at least 1.
int AvailableThreads();

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_DEVICE_H_
