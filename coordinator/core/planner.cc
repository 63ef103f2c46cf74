#include "coordinator/core/planner.h"

namespace storyfarm::coordinator {

absl::StatusOr<farm::v1::GroupShape> PipelinePlanner::ShapeOf(const plan::JobView& job, farm::v1::TaskKind kind,
                                                              absl::Span<const uint32_t> numbers) const {
  return plan::ShapeOf(job, kind, numbers);
}

plan::PlanOrRefusal PipelinePlanner::PlanGroup(const farm::v1::ModelProfile& profile,
                                               const farm::v1::DeviceReport& device, const farm::v1::GroupShape& shape,
                                               const plan::LearnedNeed& learned) const {
  return plan::PlanGroup(profile, device, shape, learned);
}

absl::StatusOr<farm::v1::Work> PipelinePlanner::WorkFor(const plan::JobView& job, farm::v1::TaskKind kind,
                                                        absl::Span<const uint32_t> numbers,
                                                        const farm::v1::MemoryPlan& plan,
                                                        const plan::WorkInputs& inputs) const {
  return plan::WorkFor(job, kind, numbers, plan, inputs);
}

}  // namespace storyfarm::coordinator
