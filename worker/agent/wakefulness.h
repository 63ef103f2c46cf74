// Keeps the machine from going to sleep by itself while it has work that the farm counts on, and only then.
//
//   wakefulness_linux.cc   an idle lock of logind's, held by a systemd-inhibit that ends with this process
//   wakefulness_mac.cc     IOKit's assertion PreventUserIdleSystemSleep, which the kernel drops with the process
//
// A person who closes the lid or chooses "Sleep" is obeyed, and the display may go dark.
#ifndef STORYFARM_WORKER_AGENT_WAKEFULNESS_H_
#define STORYFARM_WORKER_AGENT_WAKEFULNESS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "pipeline/base/log.h"

namespace storyfarm::worker {

// From one thread.
class Wakefulness {
 public:
  virtual ~Wakefulness() = default;  // lets go
  // This machine's.
  static std::unique_ptr<Wakefulness> OfSystem();

  // Only called in turn. An error is a sentence: the system does not let itself be kept awake.
  virtual absl::Status Hold() = 0;
  virtual void LetGo() = 0;
  // Whether Hold would do what it says: it may find out only later that it did not. Takes a few seconds at worst.
  virtual absl::Status Try() = 0;
};

#ifndef __APPLE__
// `inhibit`: the program systemd-inhibit.
std::unique_ptr<Wakefulness> LinuxWakefulness(std::string inhibit);
#endif

// Holds while something is leased. Lets go when it is destroyed.
class AwakeWhileLeased {
 public:
  // Both outlive this.
  AwakeWhileLeased(Wakefulness* wakefulness, base::Log* log) : wakefulness_(wakefulness), log_(log) {}
  ~AwakeWhileLeased() { Tell(false); }
  AwakeWhileLeased(const AwakeWhileLeased&) = delete;
  AwakeWhileLeased& operator=(const AwakeWhileLeased&) = delete;

  void Tell(bool leased);

 private:
  Wakefulness* const wakefulness_;
  base::Log* const log_;
  bool leased_ = false;
  bool held_ = false;
  bool warned_ = false;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_WAKEFULNESS_H_
