// What the core needs of planning, in one small interface: pipeline/plan behind it in the coordinator, a table in the
// simulation. Pure functions: the same arguments give the same answer.
#ifndef STORYFARM_COORDINATOR_CORE_PLANNER_H_
#define STORYFARM_COORDINATOR_CORE_PLANNER_H_

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "farm/v1/device.pb.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/plan.pb.h"
#include "farm/v1/work.pb.h"
#include "pipeline/plan/plan.h"

namespace storyfarm::coordinator {

// Functions and errors are those of the same name in pipeline/plan.
class Planner {
 public:
  virtual ~Planner() = default;
  virtual absl::StatusOr<farm::v1::GroupShape> ShapeOf(const plan::JobView& job, farm::v1::TaskKind kind,
                                                       absl::Span<const uint32_t> numbers) const = 0;
  virtual plan::PlanOrRefusal PlanGroup(const farm::v1::ModelProfile& profile, const farm::v1::DeviceReport& device,
                                        const farm::v1::GroupShape& shape, const plan::LearnedNeed& learned) const = 0;
  virtual absl::StatusOr<farm::v1::Work> WorkFor(const plan::JobView& job, farm::v1::TaskKind kind,
                                                 absl::Span<const uint32_t> numbers, const farm::v1::MemoryPlan& plan,
                                                 const plan::WorkInputs& inputs) const = 0;
};

// pipeline/plan itself.
class PipelinePlanner : public Planner {
 public:
  absl::StatusOr<farm::v1::GroupShape> ShapeOf(const plan::JobView& job, farm::v1::TaskKind kind,
                                               absl::Span<const uint32_t> numbers) const override;
  plan::PlanOrRefusal PlanGroup(const farm::v1::ModelProfile& profile, const farm::v1::DeviceReport& device,
                                const farm::v1::GroupShape& shape, const plan::LearnedNeed& learned) const override;
  absl::StatusOr<farm::v1::Work> WorkFor(const plan::JobView& job, farm::v1::TaskKind kind,
                                         absl::Span<const uint32_t> numbers, const farm::v1::MemoryPlan& plan,
                                         const plan::WorkInputs& inputs) const override;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_PLANNER_H_
