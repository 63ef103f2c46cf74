// When the machine's owner lends it to the farm. Pure: what the clock and the machine say comes in.
#ifndef STORYFARM_WORKER_AGENT_OWNER_RULES_H_
#define STORYFARM_WORKER_AGENT_OWNER_RULES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "farm/v1/limits.pb.h"
#include "pipeline/plan/hours.h"

namespace storyfarm::worker {

struct OwnerRules {
  std::vector<plan::WeekSpan> hours;  // empty: at any hour
  std::string hours_text;             // as the owner said it
  bool mains_only = false;            // not on a battery
  int64_t idle_minutes = 0;           // only when nobody has used the machine for so long; 0: also while somebody does
  bool cool_only = false;             // nothing new while the machine is too hot

  bool any() const { return !hours.empty() || mains_only || idle_minutes > 0 || cool_only; }
};

// The rules among the farm's limits. Hours that this version can't read count as none that it may work in.
OwnerRules RulesOf(const farm::v1::WorkerLimits& limits);

// What the machine says; nothing where it can't tell.
struct Surroundings {
  int minute_of_week = 0;  // by the local clock
  std::optional<bool> on_mains;
  std::optional<int64_t> idle_s;  // since somebody last touched it
  std::optional<bool> too_hot;
};

struct Rest {
  std::string why;      // as Heartbeat.resting says it; empty: the machine is the farm's
  bool finish = false;  // what runs may end first: nobody waits for the machine

  bool operator==(const Rest&) const = default;
};

// Whether the machine is the farm's just now. What a rule needs and the machine does not tell counts against working,
// but for heat, which most machines only tell of when there is some. The same words while the reason is the same.
Rest RestBy(const OwnerRules& rules, const Surroundings& surroundings);

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_OWNER_RULES_H_
