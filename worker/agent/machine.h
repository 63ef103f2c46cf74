// What the machine tells of its owner and of itself: whether it is on mains power, whether somebody uses it, whether it
// is too hot.
//
//   machine_linux.cc   power: /sys/class/power_supply. Use: when a terminal, local or over the network, was last typed
//                      at, and what logind knows of graphical sessions. Heat: the trip points of /sys/class/thermal
//   machine_mac.cc     power: IOKit's power sources. Use: the time since the last key, click or touch (HIDIdleTime).
//                      Heat: the system's thermal pressure
#ifndef STORYFARM_WORKER_AGENT_MACHINE_H_
#define STORYFARM_WORKER_AGENT_MACHINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "worker/agent/program_output.h"

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
  // Linux: at a zone's "hot" trip point, or within 5 degrees of the "critical" one, where the machine turns itself off.
  // macOS: heavy pressure, where it throttles so far that work hardly gets on.
  virtual std::optional<bool> TooHot() = 0;
};

#ifndef __APPLE__
// `root`: the folder that holds dev, run and sys, "" for the machine's own. `unix_s`: the time, as files' times count.
std::unique_ptr<Machine> LinuxMachine(std::string root, std::function<int64_t()> unix_s, ProgramOutput run);
#endif

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_MACHINE_H_
