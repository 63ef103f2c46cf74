// The planner of the simulation: a frame takes what the machine's reported speed says, a group fits or not.
#ifndef STORYFARM_TESTS_SIM_SCHEDULE_SIM_PLANNER_H_
#define STORYFARM_TESTS_SIM_SCHEDULE_SIM_PLANNER_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "coordinator/core/planner.h"
#include "tests/sim/schedule/scenario.h"

namespace storyfarm::schedule {

class SimPlanner : public coordinator::Planner {
 public:
  static constexpr double kWork = 100;  // TFLOP of a frame

  void Know(const Story& story) { needs_[story.spec.job_id()] = story.needed_bytes; }

  absl::StatusOr<farm::v1::GroupShape> ShapeOf(const plan::JobView& job, farm::v1::TaskKind kind,
                                               absl::Span<const uint32_t> numbers) const override {
    farm::v1::GroupShape shape;
    // The need travels in the width: what a picture's size decides in the real planner.
    shape.set_width(static_cast<uint32_t>(needs_.at(job.spec().job_id()) / 1'000'000));
    shape.set_identity_pass(kind == farm::v1::TASK_IDENTITY);
    shape.set_frames(static_cast<uint32_t>(numbers.size()));
    if (shape.identity_pass()) {
      shape.set_frames(static_cast<uint32_t>(job.spec().identities(static_cast<int>(numbers[0])).panels_size()));
    }
    return shape;
  }
  plan::PlanOrRefusal PlanGroup(const farm::v1::ModelProfile&, const farm::v1::DeviceReport& device,
                                const farm::v1::GroupShape& shape, const plan::LearnedNeed&) const override {
    const uint64_t needed = uint64_t{shape.width()} * 1'000'000;
    if (device.total_bytes() < needed) {
      farm::v1::Refusal refusal;
      refusal.set_reason(absl::StrCat("needs ", needed, " bytes"));
      refusal.set_needed_bytes(needed);
      refusal.set_offered_bytes(device.total_bytes());
      return refusal;
    }
    farm::v1::MemoryPlan plan;
    plan.set_batch(shape.identity_pass() ? shape.frames() : 1);
    plan.set_predicted_peak_bytes(needed);
    plan.set_predicted_seconds(shape.frames() * kWork / device.speed_tflops());
    return plan;
  }
  absl::StatusOr<farm::v1::Work> WorkFor(const plan::JobView&, farm::v1::TaskKind kind, absl::Span<const uint32_t>,
                                         const farm::v1::MemoryPlan&, const plan::WorkInputs& inputs) const override {
    farm::v1::Work work;
    if (kind == farm::v1::TASK_FRAME) {
      for (const auto& bank : inputs.banks) *work.mutable_frames()->add_banks() = bank;
    }
    return work;
  }

 private:
  std::map<std::string, uint64_t> needs_;
};

}  // namespace storyfarm::schedule

#endif  // STORYFARM_TESTS_SIM_SCHEDULE_SIM_PLANNER_H_
