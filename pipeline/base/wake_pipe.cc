#include "pipeline/base/wake_pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "pipeline/base/env.h"

namespace storyfarm::base {

absl::StatusOr<WakePipe> WakePipe::Open() {
  int ends[2];
  if (::pipe(ends) != 0) return ErrorFromErrno(errno, "open", "a pipe");
  for (const int end : ends) {
    ::fcntl(end, F_SETFD, FD_CLOEXEC);
    ::fcntl(end, F_SETFL, O_NONBLOCK);
  }
  WakePipe pipe;
  pipe.read_ = UniqueFd(ends[0]);
  pipe.write_ = UniqueFd(ends[1]);
  return pipe;
}

void WakePipe::Wake() const {
  const char byte = 0;
  // A full pipe wakes as well as a fuller one.
  [[maybe_unused]] const ssize_t written = ::write(write_.get(), &byte, 1);
}

void WakePipe::Drain() const {
  char drained[64];
  while (::read(read_.get(), drained, sizeof(drained)) > 0) {
  }
}

}  // namespace storyfarm::base
