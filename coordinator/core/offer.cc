#include "coordinator/core/offer.h"

#include <algorithm>
#include <variant>

namespace storyfarm::coordinator {
namespace {

// Rate assumed of a device that measured none: a plain SSD.
constexpr double kDiskBytesPerSecond = 500e6;
// No prediction is taken as shorter, so that no share grows without bound.
constexpr double kLeastSeconds = 1e-3;

double OrAssumed(uint64_t measured, double assumed) { return measured > 0 ? static_cast<double>(measured) : assumed; }

}  // namespace

const plan::PlanOrRefusal& OfferSource::Plan(const farm::v1::ModelManifest& model, const farm::v1::GroupShape& shape,
                                             const Device& device) {
  return plans_.Plan(model, device, shape, state_.NeedOf(model.digest(), device.report.backend()));
}

Offer OfferSource::Make(const farm::v1::ModelManifest& model, const farm::v1::GroupShape& shape, const Node& node,
                        const Device& device) {
  Offer offer;
  const auto* plan = std::get_if<farm::v1::MemoryPlan>(&Plan(model, shape, device));
  if (plan == nullptr) return offer;
  offer.usable = true;
  const auto slowness = device.slowness.find(model.digest());
  // An identity's frames are one task.
  const double tasks = shape.identity_pass() ? 1.0 : std::max(1u, shape.frames());
  offer.task_s = std::max(kLeastSeconds, plan->predicted_seconds() / tasks *
                                             (slowness == device.slowness.end() ? 1.0 : slowness->second.told));
  offer.batch = std::max(1u, plan->batch());
  offer.setup_s = plan::FetchSeconds(device.report, node.MissingBytes(model, plan::UseOf(shape)));
  if (device.warm_model != model.digest()) {
    offer.setup_s += static_cast<double>(model.profile().stored_bytes()) /
                     OrAssumed(device.report.disk_read_bytes_per_s(), kDiskBytesPerSecond);
  }
  return offer;
}

}  // namespace storyfarm::coordinator
