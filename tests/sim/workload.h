// What the simulated farm works on: small stories, a planner whose arithmetic fits on a line, devices, and blobs that
// tell where they come from.
#ifndef STORYFARM_TESTS_SIM_WORKLOAD_H_
#define STORYFARM_TESTS_SIM_WORKLOAD_H_

#include <cstdint>
#include <string>

#include "coordinator/core/planner.h"
#include "coordinator/core/token.h"
#include "farm/v1/blob.pb.h"
#include "farm/v1/device.pb.h"
#include "farm/v1/job.pb.h"
#include "tests/sim/dice.h"

namespace storyfarm::sim {

// One frame takes kFrameWork / speed_tflops seconds and kFrameBytes, times what was learned; batches hold what fits, at
// most kMostBatch.
class SimPlanner : public coordinator::Planner {
 public:
  static constexpr uint64_t kFrameBytes = 1'000'000'000;
  static constexpr double kFrameWork = 100;
  static constexpr uint32_t kMostBatch = 2;

  // A planner that does not count in what was learned is a planted bug.
  explicit SimPlanner(bool learns) : learns_(learns) {}

  absl::StatusOr<farm::v1::GroupShape> ShapeOf(const plan::JobView& job, farm::v1::TaskKind kind,
                                               absl::Span<const uint32_t> numbers) const override;
  plan::PlanOrRefusal PlanGroup(const farm::v1::ModelProfile& profile, const farm::v1::DeviceReport& device,
                                const farm::v1::GroupShape& shape, const plan::LearnedNeed& learned) const override;
  absl::StatusOr<farm::v1::Work> WorkFor(const plan::JobView& job, farm::v1::TaskKind kind,
                                         absl::Span<const uint32_t> numbers, const farm::v1::MemoryPlan& plan,
                                         const plan::WorkInputs& inputs) const override;

 private:
  const bool learns_;
};

// Of every story: steps of a pass.
inline constexpr uint32_t kSteps = 2;

// A story of 12 to 100 panels, of one or two chapters, with or without characters. `id` is the job's, `key` the
// submitter's.
farm::v1::JobSpec DrawStory(Dice& dice, const std::string& id, const std::string& key);
// Panels, identities, text tasks and pages of a job.
uint32_t TasksOf(const farm::v1::JobSpec& spec);

// Of 4 to 12 GB, of any backend, speeds spread over 16 times; the slowest takes kSlowestFrameSeconds for a frame.
farm::v1::DeviceReport DrawDevice(Dice& dice, uint32_t index);
inline constexpr double kLeastTflops = 10;
inline constexpr double kSlowestFrameSeconds = SimPlanner::kFrameWork / kLeastTflops;
// What a frame truly needs on a backend, as a percentage of what the planner believes before it has learned.
uint32_t TrueNeedPercent(farm::v1::Backend backend);

// A blob made under a token; `serial` tells apart what was made twice.
farm::v1::BlobRef MakeBlob(const coordinator::Token& token, uint64_t serial);
coordinator::Token OriginOf(const std::string& digest);

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_WORKLOAD_H_
