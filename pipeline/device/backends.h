// The three backends, each in a file of its own. Internal to this folder.
#ifndef STORYFARM_PIPELINE_DEVICE_BACKENDS_H_
#define STORYFARM_PIPELINE_DEVICE_BACKENDS_H_

#include <ATen/ATen.h>

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "pipeline/device/device.h"
#include "pipeline/device/landing.h"
#include "pipeline/device/transfer.h"

namespace storyfarm::device {

std::unique_ptr<Device> OpenCpu(int threads);

// Loads libtorch_cuda where a driver is there. Must run before anything asks torch for CUDA. NOT_FOUND says what is
// missing: the driver, the library, or one that it needs.
absl::Status LoadCuda();
// 0 where LoadCuda failed or the driver shows none.
int CountCuda();
absl::StatusOr<std::unique_ptr<Device>> OpenCuda(int ordinal, int threads, uint64_t memory_limit_bytes);
// `copies`: a stream of `device` beside the computing one.
std::unique_ptr<TransferSlot> NewCudaSlot(at::Device device, c10::Stream copies);
std::unique_ptr<Landings> NewCudaLandings(c10::Stream copies);

bool HasMps();
absl::StatusOr<std::unique_ptr<Device>> OpenMps(int threads, uint64_t memory_limit_bytes);
// The same, with what sets the allocator's low watermark, as a share of what Metal recommends: torch's hooks have the
// high one alone, and where there is no Metal a test stands in for both.
absl::StatusOr<std::unique_ptr<Device>> OpenMpsWith(int threads, uint64_t memory_limit_bytes,
                                                    const std::function<void(double)>& set_low);

// TFLOP/s of square matrix products, the best of several.
double MeasureMatmul(Device& device, at::ScalarType dtype, int64_t edge);
// Bytes a second from pageable host memory to the device.
uint64_t MeasureCopy(Device& device);

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_BACKENDS_H_
