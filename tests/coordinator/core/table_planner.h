// A planner for tests: sizes and speeds from small tables instead of a model's arithmetic.
#ifndef STORYFARM_TESTS_COORDINATOR_CORE_TABLE_PLANNER_H_
#define STORYFARM_TESTS_COORDINATOR_CORE_TABLE_PLANNER_H_

#include "absl/strings/str_cat.h"

#include <algorithm>
#include "coordinator/core/planner.h"

namespace storyfarm::coordinator {

// One frame takes 100 / speed_tflops seconds and 1,000 bytes (times what was learned); a group takes its batch's sum,
// and batches shrink to what fits.
class TablePlanner : public Planner {
 public:
  static constexpr uint64_t kFrameBytes = 1000;
  static constexpr double kWork = 100;
  uint32_t most_batch = 1;

  absl::StatusOr<farm::v1::GroupShape> ShapeOf(const plan::JobView& job, farm::v1::TaskKind kind,
                                               absl::Span<const uint32_t> numbers) const override {
    farm::v1::GroupShape shape;
    shape.set_frames(kind == farm::v1::TASK_PAGE ? 0 : static_cast<uint32_t>(numbers.size()));
    shape.set_reproducible(job.spec().story().settings().reproducible());
    shape.set_width(job.spec().story().settings().width());
    return shape;
  }
  plan::PlanOrRefusal PlanGroup(const farm::v1::ModelProfile&, const farm::v1::DeviceReport& device,
                                const farm::v1::GroupShape& shape, const plan::LearnedNeed& learned) const override {
    uint64_t each = kFrameBytes;
    if (learned.planned_bytes > 0) each = each * learned.needed_bytes / learned.planned_bytes;
    if (shape.width() > 0) each = each * shape.width();
    const uint64_t fit = device.total_bytes() / each;
    if (fit == 0) {
      farm::v1::Refusal refusal;
      refusal.set_reason(absl::StrCat("needs ", each, " bytes"));
      refusal.set_needed_bytes(each);
      refusal.set_offered_bytes(device.total_bytes());
      return refusal;
    }
    farm::v1::MemoryPlan plan;
    plan.set_batch(static_cast<uint32_t>(
        shape.reproducible() ? 1 : std::min<uint64_t>({fit, most_batch, std::max(1u, shape.frames())})));
    plan.set_predicted_peak_bytes(each * plan.batch());
    plan.set_predicted_seconds(shape.frames() * kWork / device.speed_tflops());
    return plan;
  }
  absl::StatusOr<farm::v1::Work> WorkFor(const plan::JobView&, farm::v1::TaskKind kind,
                                         absl::Span<const uint32_t> numbers, const farm::v1::MemoryPlan& plan,
                                         const plan::WorkInputs& inputs) const override {
    farm::v1::Work work;
    if (kind == farm::v1::TASK_FRAME) {
      *work.mutable_frames()->mutable_plan() = plan;
      for (uint32_t number : numbers) work.mutable_frames()->add_frames()->set_panel(number);
      for (const auto& bank : inputs.banks) *work.mutable_frames()->add_banks() = bank;
      for (const auto& [task, file] : inputs.texts) *work.mutable_frames()->mutable_text()->add_files() = file;
    } else if (kind == farm::v1::TASK_IDENTITY) {
      *work.mutable_identity()->mutable_plan() = plan;
      for (const auto& [task, file] : inputs.texts) *work.mutable_identity()->mutable_text()->add_files() = file;
    } else if (kind == farm::v1::TASK_TEXT) {
      *work.mutable_text()->mutable_plan() = plan;
    } else {
      for (const auto& [panel, image] : inputs.images)
        *work.mutable_page()->add_pages()->add_panels()->mutable_image() = image;
      for (const auto& [panel, why] : inputs.failures) work.mutable_page()->add_pages()->add_panels()->set_failure(why);
    }
    return work;
  }
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_TESTS_COORDINATOR_CORE_TABLE_PLANNER_H_
