// Session, the side of the machine's owner: what they allow where the worker runs, and what the farm's admin takes of
// it at most.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/limits.h"
#include "worker/core/session_parts.h"

namespace storyfarm::worker {

void Session::Parts::On(OwnerSays event) {
  heard_limit = event.limits;
  if (event.resting == owner.resting && event.finish == owner.finish) return;
  owner = std::move(event);
  // Before what comes back, so that none of it is granted to this node again.
  next_heartbeat_ms = now_ms;
  SendHeartbeatIfDue();
  Say(false, owner.resting.empty() ? "work may go on" : absl::StrCat("nothing is taken for now: ", owner.resting));
  if (owner.resting.empty()) {
    for (auto& [index, device] : devices) device.start_at_ms = now_ms;
    return;
  }
  farm::v1::Failure failure;
  failure.set_kind(farm::v1::PREEMPTED);
  failure.set_message(owner.resting);
  for (auto& [key, group] : groups) {
    std::vector<size_t> stopped;
    for (size_t i = 0; i < group.task_count(); ++i) {
      if (!owner.finish || group.stage(i) == TaskStage::kWaiting) stopped.push_back(i);
    }
    Fault(&group, Unsettled(group, stopped), failure);
  }
  if (owner.finish) return;
  for (auto& [index, device] : devices) {
    if (!device.runs.empty()) StopRunning(&device);
  }
}

bool Session::Parts::Lent(const Device& device) const { return plan::Lends(lent, device.report); }

bool Session::Parts::IsOver(const Group& group) const {
  if (!Lent(devices.at(group.device()))) return true;
  return lent.memory_bytes() > 0 && group.plan() != nullptr &&
         group.plan()->predicted_peak_bytes() > lent.memory_bytes();
}

void Session::Parts::TakeLimits(const farm::v1::WorkerLimits& limits_of_farm) {
  if (limits_of_farm.SerializeAsString() == lent.SerializeAsString()) return;
  lent = limits_of_farm;
  actions.push_back(Limit{++last_limit, lent});
  const std::string words = plan::LimitsInWords(lent);
  Say(false, words.empty() ? "the farm limits this machine no more" : absl::StrCat("the farm limits this machine: ", words));
  for (auto& [index, device] : devices) {
    device.too_large = lent.memory_bytes() > 0 && device.memory.farm_bytes() > lent.memory_bytes();
    const bool over = std::any_of(device.runs.begin(), device.runs.end(),
                                  [this](const Running& running) { return IsOver(*FindGroup(running.token)); });
    if (over) StopRunning(&device);
  }
  for (auto& [key, group] : groups) {
    if (!IsOver(group)) continue;
    std::vector<farm::v1::TaskId> tasks;
    for (size_t i = 0; i < group.task_count(); ++i) {
      if (group.stage(i) == TaskStage::kOver) continue;
      tasks.push_back(group.task(i));
      group.set_stage(i, TaskStage::kOver);
    }
    if (tasks.empty()) continue;
    Say(false, "given back: the farm's limits for this machine leave no room for it", group.token(), tasks.front());
    GiveBack(group.token(), std::move(tasks));
  }
}

}  // namespace storyfarm::worker
