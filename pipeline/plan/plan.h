// Planning: what has to be rendered, and how a device will do it. Pure functions over messages: no clock, no files, no
// randomness, no torch. Coordinator, worker and `storyctl render` call the same ones, so that all agree.
//
//   Story ──┐
//   model ──┼─ ExpandStory (expand.h, settings.h) ──> JobSpec: identity tasks, frame sets, pages
//           │                                            │
//           │                            tasks to grant: │ ShapeOf (work.h)
//           │                                            v
//   model profile, DeviceReport ──────────────────> PlanGroup ──> MemoryPlan, or Refusal
//                                                        │
//   banks and images so far ─────────────────────────> WorkFor (work.h) ──> Work, sent to the device
//   CharacterPacks (pack.h) stand in for identity tasks that some job had computed before.
//   On a farm text tasks (text.h) encode the prompts, and the others read what they made.
//
// Read cost.h for the arithmetic of bytes and seconds, profile.h for where a ModelProfile comes from.
#ifndef STORYFARM_PIPELINE_PLAN_PLAN_H_
#define STORYFARM_PIPELINE_PLAN_PLAN_H_

#include <cstdint>
#include <variant>

#include "farm/v1/device.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"
#include "pipeline/plan/expand.h"    // IWYU pragma: export
#include "pipeline/plan/fetch.h"     // IWYU pragma: export
#include "pipeline/plan/pack.h"      // IWYU pragma: export
#include "pipeline/plan/settings.h"  // IWYU pragma: export
#include "pipeline/plan/text.h"      // IWYU pragma: export
#include "pipeline/plan/work.h"      // IWYU pragma: export

namespace storyfarm::plan {

// What a kind of device taught about a model by running out of memory: a plan predicted `planned_bytes` and needed
// `needed_bytes`. Later predictions grow by the same ratio. Zeros: nothing learned.
struct LearnedNeed {
  uint64_t planned_bytes = 0;
  uint64_t needed_bytes = 0;
};

using PlanOrRefusal = std::variant<farm::v1::MemoryPlan, farm::v1::Refusal>;

// The fastest plan that stays within the device's budget, or why there is none and the smallest memory that would do.
// The same arguments give the same answer everywhere.
//
// Order: whole milliseconds, then exact weights that stay before exact ones that stream before rounded ones, then the
// smaller peak. The budget only decides which candidates are left out, so the plan of a larger one is never slower; and
// of the same other choices, weights that stream or are rounded never count as faster than those that stay. Rounding
// loses some of a picture: int8 is on offer where `shape.int8_weights` says so and never else, whatever it would gain;
// without it, a device that can't keep all weights reads some of them as they are used, which changes no bit.
// `shape.reproducible` leaves only plans whose numerics do not depend on the machine: exact weights, batch 1, one
// thread, tile and chunk by size alone.
PlanOrRefusal PlanGroup(const farm::v1::ModelProfile& model, const farm::v1::DeviceReport& device,
                        const farm::v1::GroupShape& shape, const LearnedNeed& learned = {});

// What a group may take of a device: what is free now (for a device whose engine is warm the caller counts the engine's
// own memory as free), at most what the backend recommends, less a reserve for what moves under us.
uint64_t BudgetBytes(const farm::v1::DeviceReport& device);

// The smallest memory of a device of this kind whose BudgetBytes, all of it free, would be at least so many.
uint64_t LeastMemoryBytes(farm::v1::Backend backend, uint64_t budget_bytes);

// The report of a device of which its owner lends `limit_bytes` alone; 0: all of it.
void LimitMemory(uint64_t limit_bytes, farm::v1::DeviceReport* report);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_PLAN_H_
