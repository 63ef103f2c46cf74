#include "pipeline/device/copy_lane.h"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/ParallelGuard.h>

#include <mutex>
#include <optional>

namespace storyfarm::device {

struct CopyLane::Queue {
  explicit Queue(c10::Device of) : device(of), backend(of.type()), stream(backend.getStreamFromGlobalPool(of)) {}

  c10::Device device;
  c10::impl::VirtualGuardImpl backend;
  c10::Stream stream;
  std::mutex mutex;
  std::optional<c10::Event> readers;  // under the mutex
};

CopyLane::CopyLane(c10::Device device) {
  if (device.is_cuda()) queue_ = std::make_unique<Queue>(device);
}
CopyLane::~CopyLane() = default;

void CopyLane::MarkReaders() {
  if (queue_ == nullptr) return;
  const std::lock_guard lock(queue_->mutex);
  queue_->readers.emplace(queue_->device.type());
  queue_->readers->record(queue_->backend.getStream(queue_->device));
}

void CopyLane::WaitForReaders() {
  if (queue_ == nullptr) return;
  std::optional<c10::Event> readers;
  {
    const std::lock_guard lock(queue_->mutex);
    readers = std::move(queue_->readers);
    queue_->readers.reset();
  }
  if (readers) readers->synchronize();
}

void CopyLane::Run(const std::function<void()>& copies) {
  // The computing thread has all of the plan's threads at work; a second team of as many would only get in its way.
  const c10::ParallelGuard alone(true);
  if (queue_ == nullptr) return copies();
  const c10::StreamGuard guard(queue_->stream);
  copies();
  queue_->stream.synchronize();
}

}  // namespace storyfarm::device
