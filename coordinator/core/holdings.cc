// What devices hold and when they will have done it; which of them may be given more.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {

std::string Farm::Parts::WhyIdle(const Node& node, const Device& device) const {
  if (node.session == 0) return "not connected";
  if (state.drained().count(node.id) > 0) {
    return absl::StrCat("taken out of the farm: storyctl undrain ", node.name, " gives it back");
  }
  if (node.leaving) return "it is leaving";
  if (!node.resting.empty()) return absl::StrCat("it rests: ", node.resting);
  if (!device.lent) {
    return absl::StrCat("left out by the machine's limits: storyctl worker limit ", node.name, " --devices auto lends it");
  }
  if (now.monotonic_ms - node.last_heard_ms > limits.lease_ms / 2) return "it has not been heard of for a while";
  if (device.not_before_ms > now.monotonic_ms) {
    const int64_t seconds = (device.not_before_ms - now.monotonic_ms + 999) / 1000;
    if (device.faults_in_a_row == 0) return absl::StrCat("waits for ", seconds, " s: ", device.last_fault);
    return absl::StrCat(device.faults_in_a_row >= limits.faults_to_set_aside ? "set aside for " : "waits for ", seconds,
                        " s after ", device.faults_in_a_row,
                        device.faults_in_a_row == 1 ? " fault" : " faults in a row",
                        ", the last one: ", device.last_fault);
  }
  return "";
}

std::vector<Holding> Farm::Parts::HoldingsOf(const Node& node, uint32_t device_index) const {
  std::vector<Holding> holdings;
  const std::set<Token>* tokens = state.GrantsOf(node.id);
  if (tokens == nullptr) return holdings;
  double end_s = static_cast<double>(now.monotonic_ms) / 1000;
  for (const Token& token : *tokens) {
    const LiveGrant& grant = state.grants().at(token);
    if (grant.device != device_index) continue;
    const bool running = holdings.empty();  // the oldest group runs, the others wait
    const auto found = fleet.leases.find(token);
    if (found != fleet.leases.end()) {
      const Lease& lease = found->second;
      const double task_s = lease.task_seconds > 0 ? lease.task_seconds : kPageSeconds;
      double left_s = lease.setup_seconds + task_s * static_cast<double>(grant.numbers.size());
      if (running) {
        const int64_t since_ms = std::max(lease.last_event_ms, node.devices.at(device_index).last_event_ms);
        const PassProgress& pass = node.devices.at(device_index).progress;
        const double elapsed_s = static_cast<double>(now.monotonic_ms - since_ms) / 1000;
        const double pass_s = task_s * std::min<double>(lease.batch, static_cast<double>(grant.numbers.size()));
        // What the pass has shown counts; before its first step, or between passes, time does.
        const bool shown = pass.token == token && pass.steps > 0;
        const double done_s = shown ? lease.setup_seconds + pass_s * pass.step / pass.steps : elapsed_s;
        left_s -= std::min(done_s, lease.setup_seconds + 0.9 * pass_s);
      }
      end_s += left_s;
    }
    holdings.push_back({token, end_s, running});
  }
  return holdings;
}

}  // namespace storyfarm::coordinator
