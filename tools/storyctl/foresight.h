// What a story would take of a device: its groups, each with the plan or the refusal that pipeline/plan gives, as
// coordinator and worker would ask for it. For `plan`; nothing is rendered, no device is needed.
//
//   JobSpec --> GroupsOf --> DrawnGroup ──┐
//   DeviceSpec ───────────────────────────┴──> Foresee --> Foresight --> words, JSON
#ifndef STORYFARM_TOOLS_STORYCTL_FORESIGHT_H_
#define STORYFARM_TOOLS_STORYCTL_FORESIGHT_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/plan.pb.h"
#include "pipeline/plan/plan.h"
#include "tools/storyctl/device_spec.h"

namespace storyfarm::storyctl {

// Tasks that one device takes together; `times` of them where equal ones follow each other.
struct DrawnGroup {
  farm::v1::TaskKind kind = farm::v1::TASK_FRAME;  // or TASK_IDENTITY
  std::vector<std::string> characters;             // whose identity it draws or reads
  std::vector<uint32_t> panels;                    // of all `times`
  farm::v1::GroupShape shape;                      // of one
  uint32_t times = 1;
};
// In the order in which one device would take them. Frames of a set are cut as `render` cuts them.
absl::StatusOr<std::vector<DrawnGroup>> GroupsOf(const farm::v1::JobSpec& job);

struct Foresight {
  DeviceSpec device;
  uint64_t budget_bytes = 0;                 // what a group may take
  std::vector<plan::PlanOrRefusal> answers;  // one a group
  bool refused = false;                      // some group was
  uint64_t peak_bytes = 0;                   // of the groups that have a plan
  double seconds = 0;                        // the same, `times` counted
  uint64_t needed_free_bytes = 0;  // least free memory with which no group is refused; 0: none is, or none helps
};
Foresight Foresee(const farm::v1::ModelProfile& model, const std::vector<DrawnGroup>& groups, const DeviceSpec& device);

// "identity of Tom: 2 frames drawn together, panels 0 and 1".
std::string InWords(const DrawnGroup& group);
// How a group is drawn: a line a subject, the subject first, aligned.
std::vector<std::string> InWords(const farm::v1::MemoryPlan& plan, const farm::v1::GroupShape& shape);
// The same in one line, without what every plan has: "fp32, 2.5 MB of the UNet's weights stay, VAE in tiles of 32".
std::string InShort(const farm::v1::MemoryPlan& plan);
// The whole of one device, many lines.
std::string InWords(const Foresight& foresight, const std::vector<DrawnGroup>& groups);

nlohmann::json ToJson(const Foresight& foresight, const std::vector<DrawnGroup>& groups);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_FORESIGHT_H_
