// What one device would do with one kind of work: how long, how many at a time, or why not.
#ifndef STORYFARM_COORDINATOR_CORE_OFFER_H_
#define STORYFARM_COORDINATOR_CORE_OFFER_H_

#include <cstdint>

#include "coordinator/core/fleet.h"
#include "coordinator/core/state.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"

namespace storyfarm::coordinator {

struct Offer {
  bool usable = false;
  double setup_s = 0;  // fetching the model's missing files, loading it; banks are not counted
  double task_s = 0;   // each task after that
  uint32_t batch = 1;
};

// A page takes seconds on anything; the exact figure decides nothing.
inline constexpr double kPageSeconds = 3.0;

class OfferSource {
 public:
  OfferSource(const State* state, PlanCache* plans) : state_(*state), plans_(*plans) {}

  // Predicted seconds are corrected by what this device showed with this model; rates that no one measured are assumed.
  Offer Make(const farm::v1::ModelManifest& model, const farm::v1::GroupShape& shape, const Node& node,
             const Device& device);
  // The planner's answer behind it; valid until the next call.
  const plan::PlanOrRefusal& Plan(const farm::v1::ModelManifest& model, const farm::v1::GroupShape& shape,
                                  const Device& device);

 private:
  const State& state_;
  PlanCache& plans_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_OFFER_H_
