// Where folds of one log find the stories that another of them holds already: what a job was submitted as never
// changes, and is most of what a pending job takes, so one copy serves all.
#ifndef STORYFARM_COORDINATOR_CORE_SPEC_SHELF_H_
#define STORYFARM_COORDINATOR_CORE_SPEC_SHELF_H_

#include <memory>

#include "coordinator/core/packed_spec.h"
#include "farm/v1/job.pb.h"

namespace storyfarm::coordinator {

// Called by every Farm that was given it, so from as many threads as those have. Each gives the one that somebody holds
// and that serializes to the same bytes, or else a new one, which is found from then on while anybody holds it.
class SpecShelf {
 public:
  virtual ~SpecShelf() = default;
  virtual std::shared_ptr<const PackedSpec> Keep(const farm::v1::JobSpec& spec) = 0;
  virtual std::shared_ptr<const PackedSpec> Keep(PackedSpec spec) = 0;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_SPEC_SHELF_H_
