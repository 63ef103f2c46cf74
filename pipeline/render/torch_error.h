// What libtorch's exceptions say, without their stack traces.
#ifndef STORYFARM_PIPELINE_RENDER_TORCH_ERROR_H_
#define STORYFARM_PIPELINE_RENDER_TORCH_ERROR_H_

#include <cstdint>
#include <exception>
#include <string>

#include "absl/status/status.h"
#include "pipeline/device/report.h"

namespace storyfarm::render {

struct TorchError {
  std::string message;  // its first line
  bool out_of_memory = false;
  uint64_t asked_bytes = 0;  // by the allocation that failed; 0: it does not say
};
TorchError ReadTorchError(const std::exception& thrown);

// The failure of kind OUT_OF_MEMORY. `now`: of the device when it failed.
absl::Status OutOfMemory(const TorchError& error, const std::string& device, const device::Memory& now);

}  // namespace storyfarm::render

#endif  // STORYFARM_PIPELINE_RENDER_TORCH_ERROR_H_
