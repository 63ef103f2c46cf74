// Every way in which a group could be run: what the planner chooses from. Internal to this folder.
#ifndef STORYFARM_PIPELINE_PLAN_CANDIDATES_H_
#define STORYFARM_PIPELINE_PLAN_CANDIDATES_H_

#include <vector>

#include "farm/v1/device.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"

namespace storyfarm::plan {

// Whether the device's report names the number format.
bool Computes(const farm::v1::DeviceReport& device, farm::v1::Dtype dtype);
// That of the group: the settings', or the device's usual one.
farm::v1::Dtype ChooseDtype(const farm::v1::DeviceReport& device, const farm::v1::GroupShape& shape);

// What no choice changes.
farm::v1::MemoryPlan BasePlan(const farm::v1::ModelProfile& model, const farm::v1::DeviceReport& device,
                              const farm::v1::GroupShape& shape);

// All that is on offer beside the weights, whatever the device's memory: no field that rests on free bytes. `weights`
// is RESIDENT in each. Roughly the fastest first. Empty where the backend can't work on tensors that large.
std::vector<farm::v1::MemoryPlan> Candidates(const farm::v1::ModelProfile& model, const farm::v1::DeviceReport& device,
                                             const farm::v1::GroupShape& shape);

// The same with the UNet's weights kept in other ways: int8 where the settings allow it, and streamed, where the number
// of blocks that stay is yet to be chosen. Empty where the model's profile does not say what its blocks take.
std::vector<farm::v1::MemoryPlan> OtherWeights(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape,
                                               const farm::v1::MemoryPlan& plan);

// Of a streamed plan: `share` of kResidentShares of the blocks stay, in bytes as they are kept.
inline constexpr uint32_t kResidentShares = 64;
uint64_t ResidentShareBytes(const farm::v1::ModelProfile& model, const farm::v1::MemoryPlan& plan, uint32_t share);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_CANDIDATES_H_
