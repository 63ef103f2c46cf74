// Copies to a device that run beside its computing: a second queue where the backend has one (CUDA), else plain calls.
#ifndef STORYFARM_PIPELINE_DEVICE_COPY_LANE_H_
#define STORYFARM_PIPELINE_DEVICE_COPY_LANE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include <ATen/ATen.h>

#include "absl/status/status.h"

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

  // Fills `to` with the bytes from `offset_bytes` on of something that is read. Several threads call it at a time.
  using Read = std::function<absl::Status(uint64_t offset_bytes, std::span<std::byte> to)>;
  // Whether Fetch is the way: elsewhere, host memory is the device's own, or its backend copies as fast.
  bool stages() const { return queue_ != nullptr; }
  // Within Run: what is read arrives in its `to`, uint8 [n] on the device, through page-locked chunks that several
  // threads fill. A driver that copies from pageable memory does so in one thread, at a third of the bus's rate. Throws
  // c10::Error, also with the words of a failed read.
  struct Piece {
    at::Tensor to;
    Read read;
  };
  void Fetch(const std::vector<Piece>& pieces);

 private:
  struct Queue;
  std::unique_ptr<Queue> queue_;  // null: the backend's calls are done when they return, or run in order
};

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_COPY_LANE_H_
