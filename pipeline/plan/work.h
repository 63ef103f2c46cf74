// From tasks of a job to the work that a device is sent: complete in itself, the same on a farm and without one.
#ifndef STORYFARM_PIPELINE_PLAN_WORK_H_
#define STORYFARM_PIPELINE_PLAN_WORK_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/plan.pb.h"
#include "farm/v1/work.pb.h"
#include "pipeline/plan/job_view.h"

namespace storyfarm::plan {

// What earlier tasks of the job left, as far as the work at hand reads it.
struct WorkInputs {
  std::vector<farm::v1::Bank> banks;             // frames: of the identities of their frame set, in any order
  std::map<uint32_t, farm::v1::BlobRef> images;  // pages: by panel
  std::map<uint32_t, std::string> failures;      // pages: by panel that failed, what its stand-in says
  std::map<uint32_t, farm::v1::BlobRef> texts;   // identities and frames: embeddings, by text task
};

// The work of tasks `numbers` of one kind: one identity, text or page task, or frames of one frame set, in the order
// given. `plan` is unused for pages, which every device can do. INVALID_ARGUMENT where the numbers are not that, are
// out of range, or name a frame that an identity task renders, or an identity that only a pack can stand in for. FAILED_PRECONDITION where a bank or embeddings
// that they read are missing, or a page's panel has neither image nor failure.
absl::StatusOr<farm::v1::Work> WorkFor(const JobView& job, farm::v1::TaskKind kind, absl::Span<const uint32_t> numbers,
                                       const farm::v1::MemoryPlan& plan, const WorkInputs& inputs);

// What PlanGroup needs to know of the same tasks; a page's shape is empty. INVALID_ARGUMENT as above.
absl::StatusOr<farm::v1::GroupShape> ShapeOf(const JobView& job, farm::v1::TaskKind kind,
                                             absl::Span<const uint32_t> numbers);

// What a panel's frame is; it names no characters.
farm::v1::Frame PanelFrame(const JobView& job, uint32_t number);

// The identity frames of a task, in order: its panels, then the hidden ones.
std::vector<farm::v1::Frame> IdentityFrames(const JobView& job, const farm::v1::IdentityTask& task);

// The frame set that renders a panel, or -1 where an identity task does.
int FrameSetOf(const farm::v1::JobSpec& job, uint32_t panel);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_WORK_H_
