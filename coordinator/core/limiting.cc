// What the farm may take of a machine, as an admin says it from anywhere. The coordinator plans within it; what the
// worker holds beyond it when the limits come, it gives back by itself, as its machine is the owner's.
#include <algorithm>
#include <limits>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/core/parts.h"
#include "pipeline/plan/limits.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {
namespace {

// Models that one answer names: a person reads no more.
constexpr size_t kMostNamed = 5;

// The least that a model is of use for: one picture of its own size, without characters.
farm::v1::GroupShape OnePicture(const farm::v1::ModelProfile& model) {
  farm::v1::GroupShape shape;
  shape.set_width(model.native_width());
  shape.set_height(model.native_height());
  shape.set_frames(1);
  shape.set_steps(1);
  shape.set_guidance(true);
  shape.set_decode(true);
  shape.set_text_from_file(true);
  return shape;
}

// What a model asks of a machine within limits.
struct Fit {
  bool before = false;  // some device draws with it where nothing is limited
  bool now = false;     // some device that is lent does, within the limits
  uint64_t least_bytes = std::numeric_limits<uint64_t>::max();  // limit with which the best of those that are lent would
};

}  // namespace

absl::Status Farm::Parts::CheckRoom(const std::string& node_id, const farm::v1::WorkerLimits& wanted,
                                    std::vector<std::string>* warnings) const {
  if (wanted.memory_bytes() == 0 && wanted.devices().empty()) return absl::OkStatus();
  const auto found = fleet.nodes.find(node_id);
  if (found == fleet.nodes.end() || found->second.devices.empty()) {
    warnings->push_back("the machine has not been there since the coordinator started, so nobody knows whether it can "
                        "draw within these limits: storyctl nodes will tell");
    return absl::OkStatus();
  }
  const Node& node = found->second;
  for (const std::string& name : wanted.devices()) {
    const bool there = std::any_of(node.devices.begin(), node.devices.end(), [&](const auto& device) {
      return plan::DeviceName(device.second.reported) == name;
    });
    if (!there) warnings->push_back(absl::StrCat(node.name, " has no device ", name, " just now"));
  }
  if (state.models().empty()) {
    warnings->push_back("the farm knows no model yet, so nobody knows whether one fits within these limits");
    return absl::OkStatus();
  }
  std::vector<std::string> lost;
  bool some = false;
  for (const auto& [name, model] : state.models()) {
    Fit fit;
    for (const auto& [index, device] : node.devices) {
      farm::v1::DeviceReport report = device.reported;
      report.set_free_bytes(report.total_bytes());  // what others hold just now is no limit
      const auto draws = [&]() {
        return planner->PlanGroup(model.profile(), report, OnePicture(model.profile()),
                                  state.NeedOf(model.digest(), report.backend()));
      };
      const bool before = std::holds_alternative<farm::v1::MemoryPlan>(draws());
      fit.before |= before;
      if (!before || !plan::Lends(wanted, report)) continue;
      plan::LimitMemory(wanted.memory_bytes(), &report);
      const plan::PlanOrRefusal answer = draws();
      if (const auto* refusal = std::get_if<farm::v1::Refusal>(&answer)) {
        fit.least_bytes =
            std::min(fit.least_bytes, plan::LeastMemoryBytes(report.backend(), refusal->needed_bytes()));
      } else {
        fit.now = true;
      }
    }
    some |= fit.now;
    if (!fit.before || fit.now) continue;
    const bool small = fit.least_bytes != std::numeric_limits<uint64_t>::max();
    lost.push_back(small ? absl::StrCat(name, " takes at least ", plan::GigabytesText(fit.least_bytes))
                         : absl::StrCat(name, " fits on none of the devices that are left"));
  }
  const size_t more = lost.size() > kMostNamed ? lost.size() - kMostNamed : 0;
  lost.resize(lost.size() - more);
  if (more > 0) lost.push_back(absl::StrCat(more, " more"));
  if (lost.empty()) return absl::OkStatus();
  const std::string named = absl::StrJoin(lost, ", ");
  if (some) {
    warnings->push_back(absl::StrCat("within these limits ", node.name, " does not draw with all models: ", named));
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "within these limits (", plan::LimitsInWords(wanted), ") ", node.name, " could draw with no model of the farm: ",
      named, ". Lend it more, or take it out of the farm with storyctl worker pause ", node.name));
}

std::string Farm::Parts::WhyRefused(const Node& node, const farm::v1::Refusal& refusal) const {
  const farm::v1::WorkerLimits* limited = state.LimitsOf(node.id);
  if (limited == nullptr || limited->memory_bytes() == 0) return refusal.reason();
  return absl::StrCat(refusal.reason(), "; it is limited to ", plan::GigabytesText(limited->memory_bytes()),
                      " (storyctl worker limit ", node.name, ")");
}

void Farm::Parts::On(const LimitNode& input) {
  const absl::StatusOr<std::string> id = FindNode(input.change.node());
  if (!id.ok()) return Answer(input.request, id.status());
  const farm::v1::WorkerLimits* known = state.LimitsOf(*id);
  const farm::v1::WorkerLimits before = known == nullptr ? farm::v1::WorkerLimits() : *known;
  const absl::StatusOr<farm::v1::WorkerLimits> after = plan::ChangeLimits(before, input.change);
  if (!after.ok()) return Answer(input.request, after.status());
  std::vector<std::string> warnings;
  if (after->SerializeAsString() != before.SerializeAsString()) {
    if (known == nullptr && state.node_limits().size() >= limits.nodes) {
      return Answer(input.request, absl::ResourceExhaustedError(absl::StrCat(
                                       limits.nodes, " machines have limits already: take some away with --none")));
    }
    if (absl::Status room = CheckRoom(*id, *after, &warnings); !room.ok()) return Answer(input.request, room);
    farm::v1::Record record;
    record.mutable_node_limited()->set_node_id(*id);
    if (!plan::IsUnlimited(*after)) *record.mutable_node_limited()->mutable_limits() = *after;
    Commit(std::move(record));
    if (const auto node = fleet.nodes.find(*id); node != fleet.nodes.end()) {
      for (auto& [index, device] : node->second.devices) device.Limit(state.LimitsOf(*id));
      fleet.OffersChanged(node->second);
      farm::v1::CoordinatorMessage message;
      *message.mutable_limits() = *after;
      Send(node->second.session, std::move(message));
    }
    for (const auto& [ordinal, job] : state.live()) changed.insert(job);  // why they wait
    schedule = true;
  }
  Answer(input.request, absl::OkStatus(), *id);
  out.replies.back().warnings = std::move(warnings);
}

}  // namespace storyfarm::coordinator
