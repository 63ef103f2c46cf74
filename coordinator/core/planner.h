// What the core needs of planning, in one small interface: pipeline/plan behind it in the coordinator, a table in the
// simulation. Pure functions: the same arguments give the same answer.
#ifndef STORYFARM_COORDINATOR_CORE_PLANNER_H_
#define STORYFARM_COORDINATOR_CORE_PLANNER_H_

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "farm/v1/device.pb.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/plan.pb.h"
#include "farm/v1/record.pb.h"
#include "farm/v1/work.pb.h"

namespace storyfarm::coordinator {

using PlanOrRefusal = std::variant<farm::v1::MemoryPlan, farm::v1::Refusal>;

// What a grant's work is built from beside the spec: results of tasks that it reads.
struct WorkInputs {
  std::vector<farm::v1::Bank> banks;                 // of the identities that the frames read, in their order
  std::map<uint32_t, farm::v1::FrameResult> frames;  // page tasks: panels that are done
  std::map<uint32_t, std::string> failures;          // page tasks: panels that failed, and what the stand-in says
};

class Planner {
 public:
  virtual ~Planner() = default;

  // The shape of a group of `numbers`, tasks of `kind` in `spec` (frames: of one frame set; else one task).
  virtual farm::v1::GroupShape Shape(const farm::v1::JobSpec& spec, farm::v1::TaskKind kind,
                                     const std::vector<uint32_t>& numbers) const = 0;
  virtual PlanOrRefusal Plan(const farm::v1::ModelProfile& profile, const farm::v1::DeviceReport& device,
                             const farm::v1::GroupShape& shape) const = 0;
  // `plan` is unused for page tasks, which every device can do.
  virtual farm::v1::Work WorkFor(const farm::v1::JobSpec& spec, farm::v1::TaskKind kind,
                                 const std::vector<uint32_t>& numbers, const farm::v1::MemoryPlan& plan,
                                 const WorkInputs& inputs) const = 0;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_PLANNER_H_
