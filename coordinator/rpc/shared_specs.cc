#include "coordinator/rpc/shared_specs.h"

#include <iterator>
#include <utility>

namespace storyfarm::coordinator {

// What takes long is done without the lock: of a full story it is tens of milliseconds.

std::shared_ptr<const PackedSpec> SharedSpecs::Keep(const farm::v1::JobSpec& spec) {
  const base::Digest digest = base::Digest::Of(spec.SerializeAsString());
  base::Digest known_digest;
  auto known = Find(spec.job_id(), &known_digest);
  if (known != nullptr && known_digest == digest) return known;
  const auto packed = std::make_shared<const PackedSpec>(spec);
  Add(packed, digest);
  return packed;
}

std::shared_ptr<const PackedSpec> SharedSpecs::Keep(PackedSpec spec) {
  base::Digest digest;
  auto known = Find(spec.head().job_id(), &digest);
  if (known != nullptr && *known == spec) return known;
  const auto packed = std::make_shared<const PackedSpec>(std::move(spec));
  Add(packed, base::Digest());
  return packed;
}

std::shared_ptr<const PackedSpec> SharedSpecs::Find(const std::string& job_id, base::Digest* digest) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find(job_id);
  if (found == entries_.end()) return nullptr;
  *digest = found->second.digest;
  return found->second.packed.lock();
}

void SharedSpecs::Add(const std::shared_ptr<const PackedSpec>& packed, const base::Digest& digest) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto known = entries_.begin(); known != entries_.end();) {
    known = known->second.packed.expired() ? entries_.erase(known) : std::next(known);
  }
  entries_[packed->head().job_id()] = {packed, digest};
}

}  // namespace storyfarm::coordinator
