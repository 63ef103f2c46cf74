#include "coordinator/rpc/shared_specs.h"

#include <iterator>

namespace storyfarm::coordinator {

std::shared_ptr<const farm::v1::JobSpec> SharedSpecs::Find(const farm::v1::JobSpec& like) {
  std::shared_ptr<const farm::v1::JobSpec> known;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = specs_.find(like.job_id());
    if (found != specs_.end()) known = found->second.lock();
  }
  // Without the lock: of a full story this takes milliseconds. Bytes, not fields: State is compared by its bytes.
  if (known == nullptr || known->SerializeAsString() != like.SerializeAsString()) return nullptr;
  return known;
}

void SharedSpecs::Add(const std::shared_ptr<const farm::v1::JobSpec>& spec) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto known = specs_.begin(); known != specs_.end();) {
    known = known->second.expired() ? specs_.erase(known) : std::next(known);
  }
  specs_[spec->job_id()] = spec;
}

}  // namespace storyfarm::coordinator
