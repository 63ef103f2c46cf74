// What the machine tells of its owner: whether it is on mains power, and whether somebody uses it.
//
//   machine_linux.cc   power: /sys/class/power_supply. Use: when a terminal, local or over the network, was last typed
//                      at, and what logind knows of graphical sessions
//   machine_mac.cc     power: IOKit's power sources. Use: the time since the last key, click or touch (HIDIdleTime)
#ifndef STORYFARM_WORKER_AGENT_MACHINE_H_
#define STORYFARM_WORKER_AGENT_MACHINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace storyfarm::worker {

// May be asked from any thread, one at a time; an answer takes milliseconds, at worst a few seconds.
class Machine {
 public:
  virtual ~Machine() = default;
  // This one.
  static std::unique_ptr<Machine> OfSystem();

  // Nothing where the system does not tell.
  virtual std::optional<bool> OnMains() = 0;
  virtual std::optional<int64_t> IdleSeconds() = 0;
};

#ifndef __APPLE__
// Runs a program and gives what it wrote to its standard output; an error where it can't be run or fails.
using ProgramOutput =
    std::function<absl::StatusOr<std::string>(const std::string& program, const std::vector<std::string>& arguments)>;
// `root`: the folder that holds dev, run and sys, "" for the machine's own. `unix_s`: the time, as files' times count.
std::unique_ptr<Machine> LinuxMachine(std::string root, std::function<int64_t()> unix_s, ProgramOutput run);
#endif

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_MACHINE_H_
