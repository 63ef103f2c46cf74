// What a backend takes and how fast it is beside what follows from shapes: measured on machines of its kind.
#ifndef STORYFARM_PIPELINE_PLAN_TRAITS_H_
#define STORYFARM_PIPELINE_PLAN_TRAITS_H_

#include <cstdint>

#include "farm/v1/device.pb.h"
#include "farm/v1/plan.pb.h"

namespace storyfarm::plan {

// What differs between backends, apart from what a device reports.
struct BackendTraits {
  bool attention_materialises_scores = false;  // no fused kernel for long queries
  uint64_t framework_bytes = 0;                // held by the runtime whatever is rendered: no allocator counts it
  uint64_t workspace_bytes = 0;       // of the libraries that compute: kernels' scratch, compiled graphs, unused blocks
  uint64_t text_workspace_bytes = 0;  // the same while prompts are encoded
  uint64_t idle_bytes = 0;            // freed blocks that wait for the next tensors, where no weights are streamed
  double fewest_passes = 1;           // whose memory a call takes: libraries split smaller ones, with scratch for it
  bool convolutions_copy_input = false;  // to the order that their kernel reads
  uint64_t tiled_vae_bytes = 0;          // that a VAE in tiles takes beside what its maps and tiles add up to
  // Beside a whole picture's VAE: its kernels' scratch; and of each frame of a batch that read a bank, what was
  // measured there, blocks that the UNet's calls left apart.
  uint64_t vae_workspace_bytes = 0, vae_after_reading_bytes = 0;
  // Hidden states alive at the widest point of a feed-forward, in multiples of its channels. GEGLU projects to 8, gelu
  // of one half takes 4 and the product is made there; its input, the transformer's and the resnet's output take 1
  // each: 15. Of operators of which none works in place: 22.
  double feed_forward_widths = 22;
  bool kernels = false;               // of our own in half precision: gates and norms leave only their result
  uint64_t largest_tensor_bytes = 0;  // that the backend works on; 0: any
  double efficiency = 0;              // of a UNet against the measured matmul speed
  double call_seconds = 0;            // of one UNet call beside its computing: dispatch
  double gap_seconds = 0;             // between kernels that are launched one by one, in a call
  double launch_seconds = 0;          // least duration of a call whose kernels are launched one by one; recorded: none
  uint32_t max_batch = 1;             // frames in one call beyond which nothing is gained
};
BackendTraits TraitsOf(farm::v1::Backend backend);
inline bool HasKernels(const BackendTraits& backend, farm::v1::Dtype dtype) {
  return backend.kernels && dtype != farm::v1::FP32;
}

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_TRAITS_H_
