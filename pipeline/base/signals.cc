#include "pipeline/base/signals.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "pipeline/base/env.h"

namespace storyfarm::base {
namespace {

// A handler may do little more than write to a pipe.
int signal_pipe[2] = {-1, -1};
volatile sig_atomic_t signals_seen = 0;

extern "C" void OnStopSignal(int number) {
  if (signals_seen != 0) _exit(128 + number);
  signals_seen = 1;
  const char byte = 1;
  const int saved = errno;
  if (write(signal_pipe[1], &byte, 1) != 1) _exit(128 + number);
  errno = saved;
}

}  // namespace

absl::Status InstallStopSignals() {
  if (pipe(signal_pipe) != 0) return ErrorFromErrno(errno, "open a pipe for", "signals");
  for (const int fd : signal_pipe) fcntl(fd, F_SETFD, FD_CLOEXEC);
  struct sigaction action {};
  action.sa_handler = OnStopSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
  return absl::OkStatus();
}

StopWatch::StopWatch(std::function<void()> drain)
    : thread_([drain = std::move(drain)] {
        char byte = 0;
        ssize_t got = 0;
        do {
          got = read(signal_pipe[0], &byte, 1);
        } while (got < 0 && errno == EINTR);
        if (got == 1 && byte == 1) drain();
      }) {}

StopWatch::~StopWatch() {
  const char byte = 0;
  // The pipe never holds more than two bytes: this can't fail or block.
  if (write(signal_pipe[1], &byte, 1) == 1) thread_.join();
}

}  // namespace storyfarm::base
