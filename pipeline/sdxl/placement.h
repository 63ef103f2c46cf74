// Where a component's weights live and how they are kept: the part of a memory plan that is about weights.
#ifndef STORYFARM_PIPELINE_SDXL_PLACEMENT_H_
#define STORYFARM_PIPELINE_SDXL_PLACEMENT_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

namespace storyfarm::sdxl {

// For a network whose weights do not all stay on the device (weight_stream.h).
struct StreamOptions {
  uint64_t resident_bytes = 0;  // blocks kept on the device, as they are kept there (int8 or not)
  uint64_t buffer_bytes = 0;    // of the ring that the others pass through; at least the largest one's is taken
};

struct Placement {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // that computes
  // Convolution weights in NHWC order, which tensor cores read without a transposition.
  bool channels_last = false;
  // The next two count for networks built in blocks (the UNet) alone. Matrices and kernels of resident blocks in int8,
  // with a scale for every few weights of an output channel (parameter.h).
  bool int8 = false;
  std::optional<StreamOptions> stream;  // absent: every block stays
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_PLACEMENT_H_
