#include "tools/storyctl/foresight.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "tools/storyctl/local_job.h"

namespace storyfarm::storyctl {
namespace {

std::string CharacterOf(const farm::v1::JobSpec& job, uint32_t identity) {
  return job.story().characters(static_cast<int>(job.identities(static_cast<int>(identity)).character())).name();
}

// Memory that has to be free for a budget of `bytes`: the planner keeps a part of what is free.
uint64_t FreeBytesFor(const farm::v1::DeviceReport& report, uint64_t bytes) {
  farm::v1::DeviceReport roomy = report;
  roomy.clear_recommended_max_bytes();
  roomy.set_free_bytes(uint64_t{1} << 60);
  return bytes + (roomy.free_bytes() - plan::BudgetBytes(roomy));
}

}  // namespace

absl::StatusOr<std::vector<DrawnGroup>> GroupsOf(const farm::v1::JobSpec& job) {
  std::vector<DrawnGroup> groups;
  for (uint32_t i = 0; i < static_cast<uint32_t>(job.identities_size()); ++i) {
    if (!job.identities(static_cast<int>(i)).pack().empty()) continue;  // nothing is drawn for it
    auto shape = plan::ShapeOf(job, farm::v1::TASK_IDENTITY, {i});
    if (!shape.ok()) return shape.status();
    const auto& panels = job.identities(static_cast<int>(i)).panels();
    groups.push_back({farm::v1::TASK_IDENTITY, {CharacterOf(job, i)}, {panels.begin(), panels.end()}, *shape, 1});
  }
  for (const farm::v1::FrameSet& set : job.frame_sets()) {
    std::vector<std::string> characters;
    for (const uint32_t identity : set.identities()) characters.push_back(CharacterOf(job, identity));
    const size_t first_of_set = groups.size();
    for (auto from = set.panels().begin(); from != set.panels().end();) {
      const auto to = from + std::min<ptrdiff_t>(set.panels().end() - from, kFramesARequest);
      const std::vector<uint32_t> panels(from, to);
      from = to;
      auto shape = plan::ShapeOf(job, farm::v1::TASK_FRAME, panels);
      if (!shape.ok()) return shape.status();
      const bool again =
          groups.size() > first_of_set && groups.back().shape.SerializeAsString() == shape->SerializeAsString();
      if (again) {
        ++groups.back().times;
        groups.back().panels.insert(groups.back().panels.end(), panels.begin(), panels.end());
      } else {
        groups.push_back({farm::v1::TASK_FRAME, characters, panels, *shape, 1});
      }
    }
  }
  return groups;
}

Foresight Foresee(const farm::v1::ModelProfile& model, const std::vector<DrawnGroup>& groups,
                  const DeviceSpec& device) {
  Foresight foresight;
  foresight.device = device;
  foresight.budget_bytes = plan::BudgetBytes(device.report);
  bool memory_helps = true;
  for (const DrawnGroup& group : groups) {
    foresight.answers.push_back(plan::PlanGroup(model, device.report, group.shape));
    if (const auto* refusal = std::get_if<farm::v1::Refusal>(&foresight.answers.back())) {
      foresight.refused = true;
      memory_helps &= refusal->needed_bytes() > 0;
      foresight.needed_free_bytes =
          std::max(foresight.needed_free_bytes, FreeBytesFor(device.report, refusal->needed_bytes()));
      continue;
    }
    const auto& plan = std::get<farm::v1::MemoryPlan>(foresight.answers.back());
    foresight.peak_bytes = std::max(foresight.peak_bytes, plan.predicted_peak_bytes());
    foresight.seconds += group.times * plan.predicted_seconds();
  }
  if (!memory_helps) foresight.needed_free_bytes = 0;
  return foresight;
}

}  // namespace storyfarm::storyctl
