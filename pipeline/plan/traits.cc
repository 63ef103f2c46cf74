#include "pipeline/plan/traits.h"

namespace storyfarm::plan {

BackendTraits TraitsOf(farm::v1::Backend backend) {
  switch (backend) {
    case farm::v1::CUDA:
      // cuBLAS and cuDNN workspaces and what the caching allocator leaves unused; the context is no longer free when a
      // device reports. Memory and speed: measured on an H200 with SDXL (tools/bench/memory_sweep.py, sdxl_speed; a VAE
      // in tiles of 16 to 64 latents took 0.31 to 0.38 GB more there than its tensors).
      return {.attention_materialises_scores = false,
              .framework_bytes = 0,
              .workspace_bytes = 90'000'000,
              .idle_bytes = 0,
              .text_workspace_bytes = 110'000'000,
              .fewest_passes = 2,
              .convolutions_copy_input = false,
              .tiled_vae_bytes = 400'000'000,
              .feed_forward_widths = 22,
              .kernels = true,
              .vae_workspace_bytes = 85'000'000,
              .vae_after_reading_bytes = 65'000'000,
              .largest_tensor_bytes = 0,
              .efficiency = 0.57,
              .call_seconds = 0.0005,
              .gap_seconds = 0.001,
              .launch_seconds = 0.017,
              .max_batch = 8};
    case farm::v1::MPS:
      // Metal's compiled graphs, and heaps that are partly used.
      return {.attention_materialises_scores = true,
              .framework_bytes = 0,
              .workspace_bytes = 640'000'000,
              .idle_bytes = 0,
              .text_workspace_bytes = 640'000'000,
              .fewest_passes = 1,
              .convolutions_copy_input = false,
              .tiled_vae_bytes = 0,
              .feed_forward_widths = 22,
              .kernels = false,
              .vae_workspace_bytes = 0,
              .vae_after_reading_bytes = 0,
              .largest_tensor_bytes = uint64_t{1} << 32,  // larger ones abort the process
              .efficiency = 0.45,
              .call_seconds = 0.03,
              .gap_seconds = 0,
              .launch_seconds = 0,
              .max_batch = 4};
    default:
      // libtorch's tables and touched pages, measured: 61 MB of its own and 96 MB of files. oneDNN's kernels, what the
      // allocator keeps of small blocks, and large ones rounded up to pages of 2 MB: 1 to 13 MB. A batch gains a tenth
      // on a CPU, and costs the checkpoint of every single frame.
      return {.attention_materialises_scores = false,
              .framework_bytes = 160'000'000,
              .workspace_bytes = 14'000'000,
              .idle_bytes = 7'000'000,
              .text_workspace_bytes = 21'000'000,
              .fewest_passes = 1,
              .convolutions_copy_input = true,
              .tiled_vae_bytes = 0,
              .feed_forward_widths = 15,
              .kernels = false,
              .vae_workspace_bytes = 0,
              .vae_after_reading_bytes = 0,
              .largest_tensor_bytes = 0,
              .efficiency = 0.6,
              .call_seconds = 0.004,
              .gap_seconds = 0,
              .launch_seconds = 0,
              .max_batch = 1};
  }
}

}  // namespace storyfarm::plan
