// Work that is launched once and done many times: a device that takes hundreds of launches at a blow does not wait for
// a CPU that issues them one by one.
#ifndef STORYFARM_PIPELINE_DEVICE_GRAPH_H_
#define STORYFARM_PIPELINE_DEVICE_GRAPH_H_

#include <functional>
#include <memory>

namespace c10 {
struct Device;
}

namespace storyfarm::device {

class Graph {
 public:
  virtual ~Graph() = default;
  // Does the recorded work again, with what the same tensors hold now.
  virtual void Replay() = 0;
};

// Records graphs that share their memory: they are replayed in the order in which they were recorded, and what one
// leaves in its tensors is there until the next round. All may throw c10::Error.
class GraphRecorder {
 public:
  virtual ~GraphRecorder() = default;
  // `work` launches and allocates, and waits for nothing; what it launches does not run yet. Everything that it
  // launches must have run once before, so that libraries have chosen their kernels.
  virtual std::unique_ptr<Graph> Record(const std::function<void()>& work) = 0;
  // Graphs recorded from now on share another memory; that of earlier ones goes with them.
  virtual void Reset() = 0;
};
// Null where the device has no such thing.
std::unique_ptr<GraphRecorder> NewGraphRecorder(c10::Device device);

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_GRAPH_H_
