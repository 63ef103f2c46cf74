// Copies to a device that run beside its computing: a second queue where the backend has one (CUDA), else plain calls.
#ifndef STORYFARM_PIPELINE_DEVICE_COPY_LANE_H_
#define STORYFARM_PIPELINE_DEVICE_COPY_LANE_H_

#include <functional>
#include <memory>

namespace c10 {
struct Device;
}

namespace storyfarm::device {

// For one copying thread and one computing thread.
class CopyLane {
 public:
  explicit CopyLane(c10::Device device);
  ~CopyLane();

  // Computing thread: everything launched so far reads what it reads before a later WaitForReaders returns.
  void MarkReaders();
  // Copying thread: blocks until what the last MarkReaders spoke of has run.
  void WaitForReaders();
  // Copying thread: runs `copies` on its own queue, and in this thread alone; what they wrote is there on return.
  void Run(const std::function<void()>& copies);

 private:
  struct Queue;
  std::unique_ptr<Queue> queue_;  // null: the backend's calls are done when they return, or run in order
};

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_COPY_LANE_H_
