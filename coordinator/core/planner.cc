#include "coordinator/core/planner.h"

namespace storyfarm::coordinator {

absl::StatusOr<farm::v1::GroupShape> PipelinePlanner::ShapeOf(const farm::v1::JobSpec& spec, farm::v1::TaskKind kind,
                                                              absl::Span<const uint32_t> numbers) const {
  return plan::ShapeOf(spec, kind, numbers);
}

plan::PlanOrRefusal PipelinePlanner::PlanGroup(const farm::v1::ModelProfile& profile,
                                               const farm::v1::DeviceReport& device, const farm::v1::GroupShape& shape,
                                               const plan::LearnedNeed& learned) const {
  return plan::PlanGroup(profile, device, shape, learned);
}

absl::StatusOr<farm::v1::Work> PipelinePlanner::WorkFor(const farm::v1::JobSpec& spec, farm::v1::TaskKind kind,
                                                        absl::Span<const uint32_t> numbers,
                                                        const farm::v1::MemoryPlan& plan,
                                                        const plan::WorkInputs& inputs) const {
  return plan::WorkFor(spec, kind, numbers, plan, inputs);
}

}  // namespace storyfarm::coordinator
