// The library of CUDA kernels, where there is one. Internal to this folder.
#ifndef STORYFARM_PIPELINE_DEVICE_KERNEL_LIBRARY_H_
#define STORYFARM_PIPELINE_DEVICE_KERNEL_LIBRARY_H_

#include "pipeline/device/cuda/kernels.h"

namespace storyfarm::device {

// Its functions (cuda/kernels.h).
struct KernelLibrary {
  decltype(&StoryfarmGroupNormScratch) group_norm_scratch = nullptr;
  decltype(&StoryfarmGroupNormRun) group_norm = nullptr;
  decltype(&StoryfarmLayerNorm) layer_norm = nullptr;
  decltype(&StoryfarmGeglu) geglu = nullptr;
  decltype(&StoryfarmHasGatedProduct) has_gated_product = nullptr;
  decltype(&StoryfarmGatedProduct) gated_product = nullptr;
  decltype(&StoryfarmAddProductRun) add_product = nullptr;
  decltype(&StoryfarmJoinRows) join_rows = nullptr;
  decltype(&StoryfarmGatherRows) gather_rows = nullptr;
  decltype(&StoryfarmUpsample) upsample = nullptr;
  decltype(&StoryfarmAddBias) add_bias = nullptr;
  decltype(&StoryfarmUnpack) unpack = nullptr;
  decltype(&StoryfarmPack) pack = nullptr;
  decltype(&StoryfarmGraphBegin) graph_begin = nullptr;
  decltype(&StoryfarmGraphEnd) graph_end = nullptr;
  decltype(&StoryfarmGraphReplay) graph_replay = nullptr;
  decltype(&StoryfarmGraphDelete) graph_delete = nullptr;
  decltype(&StoryfarmCapMemory) cap_memory = nullptr;
};

// Once libtorch_cuda is loaded: looks for libstoryfarm_cuda.so beside the running program. Without it, torch's own
// operations do the same more slowly, and no allocator is capped.
void LoadKernels();
// Null before LoadKernels, or where it found none. Any thread.
const KernelLibrary* LoadedKernels();

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_KERNEL_LIBRARY_H_
