// Asks clock and machine every few seconds whether the owner's rules allow work, on a thread of its own, and tells the
// session when that changes.
#ifndef STORYFARM_WORKER_AGENT_OWNER_WATCH_H_
#define STORYFARM_WORKER_AGENT_OWNER_WATCH_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "worker/agent/event_queue.h"
#include "worker/agent/machine.h"
#include "worker/agent/owner_rules.h"

namespace storyfarm::worker {

// Soon enough for a person who comes back to a machine that stutters, and seldom enough to cost nothing.
inline constexpr int64_t kOwnerEveryMs = 5000;

struct OwnerWatchParts {
  Machine* machine = nullptr;
  std::function<int()> minute_of_week;  // by the local clock, Monday 0:00 is 0
  EventQueue* events = nullptr;
  int64_t every_ms = kOwnerEveryMs;
};

// This machine's local clock.
int LocalMinuteOfWeek();

class OwnerWatch {
 public:
  // Asks once; then, where `rules` says anything, starts the thread. What `parts` names outlives this. `rules` are those
  // that the worker was started with.
  OwnerWatch(OwnerRules rules, OwnerWatchParts parts);
  ~OwnerWatch();

  // What the first question came to: for Session before anything else.
  const Rest& first() const { return first_; }

  // The farm's own rules, in place of those that it gave before; both count. What that comes to is told as OwnerSays
  // with this number.
  void SetFarmRules(uint64_t number, OwnerRules rules);

 private:
  Rest Ask(const OwnerRules& farm_rules);
  void Main();

  const OwnerRules rules_;
  const OwnerWatchParts parts_;
  Rest first_;
  std::mutex mutex_;
  std::condition_variable changed_;
  OwnerRules farm_rules_;
  uint64_t number_ = 0;  // of farm_rules_
  bool leaving_ = false;
  std::thread thread_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_OWNER_WATCH_H_
