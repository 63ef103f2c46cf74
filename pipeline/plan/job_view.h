// A job as work is made of it, wherever its panels are kept.
#ifndef STORYFARM_PIPELINE_PLAN_JOB_VIEW_H_
#define STORYFARM_PIPELINE_PLAN_JOB_VIEW_H_

#include <cstdint>

#include "farm/v1/job.pb.h"
#include "farm/v1/story.pb.h"

namespace storyfarm::plan {

// Pixels; 0: the story's.
struct PanelSize {
  uint32_t width = 0;
  uint32_t height = 0;
};

// Panels that do not stand in their story. Numbers are those of panels that the job has.
class PanelSource {
 public:
  virtual ~PanelSource() = default;
  // Valid until the next call.
  virtual const farm::v1::Panel& Get(uint32_t number) const = 0;
  // The size that a panel names, without having to get it.
  virtual PanelSize SizeOf(uint32_t number) const = 0;
};

// Refers to what it was made of, which outlives it.
class JobView {
 public:
  // A job whose panels stand in its story.
  JobView(const farm::v1::JobSpec& job) : job_(job) {}  // NOLINT(google-explicit-constructor): it is its own view
  // `panels` in place of those of the story's chapters, which may be empty.
  JobView(const farm::v1::JobSpec& job, const PanelSource* panels) : job_(job), panels_(panels) {}

  // All of it but, perhaps, the panels.
  const farm::v1::JobSpec& spec() const { return job_; }
  // Valid until the next call.
  const farm::v1::Panel& PanelAt(uint32_t number) const;
  PanelSize SizeOf(uint32_t number) const;

 private:
  const farm::v1::JobSpec& job_;
  const PanelSource* panels_ = nullptr;
};

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_JOB_VIEW_H_
