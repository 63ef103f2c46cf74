// What torch has for CUDA alone: it has no door in the libraries that machines without CUDA load.
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include <memory>

#include "pipeline/device/cuda/kernels.h"

struct StoryfarmGraph {
  at::cuda::CUDAGraph graph;
};

StoryfarmGraph* StoryfarmGraphBegin(unsigned long long pool[2]) {
  auto recording = std::make_unique<StoryfarmGraph>();
  if (pool[0] == 0 && pool[1] == 0) {
    const auto fresh = at::cuda::graph_pool_handle();
    pool[0] = fresh.first;
    pool[1] = fresh.second;
  }
  // Other threads go on to allocate and copy meanwhile.
  recording->graph.capture_begin({pool[0], pool[1]}, cudaStreamCaptureModeThreadLocal);
  return recording.release();
}

void StoryfarmGraphEnd(StoryfarmGraph* recording) { recording->graph.capture_end(); }
void StoryfarmGraphReplay(StoryfarmGraph* recording) { recording->graph.replay(); }
void StoryfarmGraphDelete(StoryfarmGraph* recording) { delete recording; }

void StoryfarmCapMemory(double share, int ordinal) {
  c10::cuda::CUDACachingAllocator::setMemoryFraction(share, static_cast<c10::DeviceIndex>(ordinal));
}
