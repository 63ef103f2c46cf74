// The stories of live jobs, held once for the loop's Farm and the snapshots' (core/spec_shelf.h). Behind loop.h.
#ifndef STORYFARM_COORDINATOR_RPC_SHARED_SPECS_H_
#define STORYFARM_COORDINATOR_RPC_SHARED_SPECS_H_

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "coordinator/core/spec_shelf.h"
#include "pipeline/base/digest.h"

namespace storyfarm::coordinator {

// Thread-safe.
class SharedSpecs : public SpecShelf {
 public:
  std::shared_ptr<const PackedSpec> Keep(const farm::v1::JobSpec& spec) override;
  std::shared_ptr<const PackedSpec> Keep(PackedSpec spec) override;

 private:
  struct Entry {
    std::weak_ptr<const PackedSpec> packed;
    base::Digest digest;  // of the spec's bytes; zero: it came packed
  };
  // Null where nobody holds one of that job.
  std::shared_ptr<const PackedSpec> Find(const std::string& job_id, base::Digest* digest);
  void Add(const std::shared_ptr<const PackedSpec>& packed, const base::Digest& digest);

  std::mutex mutex_;
  std::map<std::string, Entry> entries_;  // by job id
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_SHARED_SPECS_H_
