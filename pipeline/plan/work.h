// From tasks of a job to the work that a device is sent: complete in itself, the same on a farm and without one.
#ifndef STORYFARM_PIPELINE_PLAN_WORK_H_
#define STORYFARM_PIPELINE_PLAN_WORK_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/plan.pb.h"
#include "farm/v1/work.pb.h"

namespace storyfarm::plan {

// What earlier tasks of the job left, as far as the work at hand needs it.
struct Results {
  std::map<uint32_t, farm::v1::Bank> banks;      // by identity task: for frames, those of their frame set
  std::map<uint32_t, farm::v1::BlobRef> images;  // by panel: for pages
  std::map<uint32_t, std::string> failures;      // by panel that failed for good: what the page's stand-in says
};

// The work of `tasks`, which are of one kind: one identity task, one page task, or frames of one frame set (their order
// is the work's). INVALID_ARGUMENT where they are not, where a number is out of range, or where a frame is rendered by
// an identity task. FAILED_PRECONDITION where a bank that they read is missing, or a page's panel has neither image nor
// failure.
absl::StatusOr<farm::v1::Work> WorkFor(const farm::v1::JobSpec& job, absl::Span<const farm::v1::TaskId> tasks,
                                       const Results& results, const farm::v1::MemoryPlan& plan);

// What PlanGroup needs to know of the same tasks. Pages need no plan: their shape has no frames. Same errors.
absl::StatusOr<farm::v1::GroupShape> ShapeOf(const farm::v1::JobSpec& job, absl::Span<const farm::v1::TaskId> tasks);

// The frame set that renders a panel, or -1 where an identity task does.
int FrameSetOf(const farm::v1::JobSpec& job, uint32_t panel);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_WORK_H_
