#include "pipeline/device/graph.h"

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "pipeline/device/kernel_library.h"

namespace storyfarm::device {
namespace {

class CudaGraph final : public Graph {
 public:
  CudaGraph(const KernelLibrary& library, StoryfarmGraph* graph) : library_(library), graph_(graph) {}
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  ~CudaGraph() override { library_.graph_delete(graph_); }
  void Replay() override { library_.graph_replay(graph_); }

 private:
  const KernelLibrary& library_;
  StoryfarmGraph* graph_;
};

class CudaGraphRecorder final : public GraphRecorder {
 public:
  CudaGraphRecorder(const KernelLibrary& library, at::Device device)
      : library_(library),
        // Of the pool that nobody else draws from: what another thread put on this stream would be recorded, too.
        stream_(c10::impl::VirtualGuardImpl(at::kCUDA).getStreamFromGlobalPool(device, /*isHighPriority=*/true)) {}

  std::unique_ptr<Graph> Record(const std::function<void()>& work) override {
    const c10::StreamGuard guard(stream_);
    StoryfarmGraph* recording = library_.graph_begin(pool_);
    auto graph = std::make_unique<CudaGraph>(library_, recording);
    try {
      work();
    } catch (...) {
      End(recording);
      throw;
    }
    library_.graph_end(recording);
    return graph;
  }
  void Reset() override { pool_[0] = pool_[1] = 0; }

 private:
  // After a failure: the stream records no more, and the first error is the one to tell.
  void End(StoryfarmGraph* recording) {
    try {
      library_.graph_end(recording);
    } catch (const std::exception&) {
    }
  }

  const KernelLibrary& library_;
  const c10::Stream stream_;
  unsigned long long pool_[2] = {0, 0};
};

}  // namespace

std::unique_ptr<GraphRecorder> NewGraphRecorder(c10::Device device) {
  const KernelLibrary* library = device.is_cuda() ? LoadedKernels() : nullptr;
  return library != nullptr ? std::make_unique<CudaGraphRecorder>(*library, device) : nullptr;
}

}  // namespace storyfarm::device
