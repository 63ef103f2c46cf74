// Wakes a thread that waits in poll, from any other.
#ifndef STORYFARM_PIPELINE_BASE_WAKE_PIPE_H_
#define STORYFARM_PIPELINE_BASE_WAKE_PIPE_H_

#include "absl/status/statusor.h"
#include "pipeline/base/unique_fd.h"

namespace storyfarm::base {

// Movable. An empty one wakes nobody.
class WakePipe {
 public:
  WakePipe() = default;
  static absl::StatusOr<WakePipe> Open();

  // What the waiting thread polls for POLLIN; -1: an empty one.
  int fd() const { return read_.get(); }
  // Any thread.
  void Wake() const;
  // The waiting thread, once it is awake: it was woken as often as it may be.
  void Drain() const;

 private:
  UniqueFd read_, write_;
};

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_WAKE_PIPE_H_
