// Profiles of three models, devices and stories, for the planner's tests.
#ifndef STORYFARM_TESTS_PIPELINE_PLAN_SHAPES_H_
#define STORYFARM_TESTS_PIPELINE_PLAN_SHAPES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "farm/v1/device.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"
#include "farm/v1/story.pb.h"
#include "pipeline/plan/plan.h"

namespace storyfarm::plan {

farm::v1::ModelProfile SdxlProfile();  // stabilityai/stable-diffusion-xl-base-1.0
farm::v1::ModelProfile DemoProfile();  // deploy/examples/demo-model
farm::v1::ModelProfile TinyProfile();  // tests/data/tiny_sdxl
farm::v1::ModelManifest Manifest(const farm::v1::ModelProfile& profile);

farm::v1::DeviceReport Device(farm::v1::Backend backend, uint64_t free_bytes, double tflops);
// A device whose budget is exactly `budget_bytes`.
farm::v1::DeviceReport DeviceOfBudget(farm::v1::Backend backend, uint64_t budget_bytes, double tflops);

// A group of `frames` square pictures with guidance that reads `identity_frames`.
farm::v1::GroupShape Group(uint32_t edge_pixels, uint32_t frames, uint32_t identity_frames, uint32_t steps = 50);

// Null where it is the other.
const farm::v1::MemoryPlan* Planned(const PlanOrRefusal& result);
const farm::v1::Refusal* Refused(const PlanOrRefusal& result);

// A story of one chapter. Each panel is the list of characters that it names; `characters` of them exist, with names
// "A", "B", ... and descriptions "a person called A", ...
farm::v1::Story StoryOf(int characters, const std::vector<std::vector<uint32_t>>& panels);

}  // namespace storyfarm::plan

#endif  // STORYFARM_TESTS_PIPELINE_PLAN_SHAPES_H_
