#include "pipeline/plan/traits.h"

namespace storyfarm::plan {

BackendTraits TraitsOf(farm::v1::Backend backend) {
  switch (backend) {
    case farm::v1::CUDA:
      // cuBLAS and cuDNN workspaces and what the caching allocator leaves unused; the context is no longer free when a
      // device reports. Memory and speed: measured on an H200 with SDXL (tools/bench/memory_sweep.py, sdxl_speed; a VAE
      // in tiles of 16 to 64 latents took 0.31 to 0.38 GB more there than its tensors).
      return {.workspace_bytes = 90'000'000,
              .text_workspace_bytes = 110'000'000,
              .fewest_passes = 2,
              .tiled_vae_bytes = 400'000'000,
              .vae_workspace_bytes = 85'000'000,
              .vae_after_reading_bytes = 65'000'000,
              .kernels = true,
              .efficiency = 0.57,
              .call_seconds = 0.0005,
              .gap_seconds = 0.001,
              .launch_seconds = 0.017,
              .max_batch = 8};
    case farm::v1::MPS:
      // Metal's compiled graphs, and heaps that are partly used.
      return {.attention_materialises_scores = true,
              .workspace_bytes = 640'000'000,
              .text_workspace_bytes = 640'000'000,
              .largest_tensor_bytes = uint64_t{1} << 32,  // larger ones abort the process
              .efficiency = 0.45,
              .call_seconds = 0.03,
              .max_batch = 4};
    default:
      // libtorch's tables and touched pages, measured: 61 MB of its own and 96 MB of files. oneDNN's kernels, what the
      // allocator keeps of small blocks, and large ones rounded up to pages of 2 MB: 1 to 13 MB. A batch gains a tenth
      // on a CPU, and costs the checkpoint of every single frame.
      return {.framework_bytes = 160'000'000,
              .workspace_bytes = 14'000'000,
              .text_workspace_bytes = 21'000'000,
              .idle_bytes = 7'000'000,
              .convolutions_copy_input = true,
              .feed_forward_widths = 15,
              .efficiency = 0.6,
              .call_seconds = 0.004,
              .max_batch = 1};
  }
}

}  // namespace storyfarm::plan
