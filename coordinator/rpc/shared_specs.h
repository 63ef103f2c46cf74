// The stories of live jobs, held once for the loop's Farm and the snapshots' (core/spec_shelf.h). Behind loop.h.
#ifndef STORYFARM_COORDINATOR_RPC_SHARED_SPECS_H_
#define STORYFARM_COORDINATOR_RPC_SHARED_SPECS_H_

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "coordinator/core/spec_shelf.h"

namespace storyfarm::coordinator {

// Thread-safe.
class SharedSpecs : public SpecShelf {
 public:
  std::shared_ptr<const farm::v1::JobSpec> Find(const farm::v1::JobSpec& like) override;
  void Add(const std::shared_ptr<const farm::v1::JobSpec>& spec) override;

 private:
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<const farm::v1::JobSpec>> specs_;  // by job id
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_SHARED_SPECS_H_
