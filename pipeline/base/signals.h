// How a program is asked to stop. The first SIGTERM or SIGINT is handed to a function on a thread of its own, where it
// may lock and wait; a second one ends the process at once. SIGPIPE is ignored: a peer that went away is an error of a
// write, not a reason to die.
//
// Signals belong to the process, so this is the one piece of state that no object can own. For main() alone.
#ifndef STORYFARM_PIPELINE_BASE_SIGNALS_H_
#define STORYFARM_PIPELINE_BASE_SIGNALS_H_

#include <functional>
#include <thread>

#include "absl/status/status.h"

namespace storyfarm::base {

// Takes the signals over, for the rest of the process. Call once, before any thread starts and before a StopWatch.
// What a second signal breaks off must lose nothing that was promised: exit code 128 + the signal's number.
absl::Status InstallStopSignals();

// Calls `drain` once, when the first signal comes, also where it came before this object. Ends with the object: after
// the destructor `drain` runs no more.
class StopWatch {
 public:
  explicit StopWatch(std::function<void()> drain);
  ~StopWatch();
  StopWatch(const StopWatch&) = delete;
  StopWatch& operator=(const StopWatch&) = delete;

 private:
  std::thread thread_;
};

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_SIGNALS_H_
