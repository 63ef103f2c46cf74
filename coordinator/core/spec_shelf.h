// Where folds of one log find the stories that another of them holds already: what a job was submitted as never
// changes, and is most of what a pending job takes, so one copy serves all.
#ifndef STORYFARM_COORDINATOR_CORE_SPEC_SHELF_H_
#define STORYFARM_COORDINATOR_CORE_SPEC_SHELF_H_

#include <memory>

#include "farm/v1/job.pb.h"

namespace storyfarm::coordinator {

// Called by every Farm that was given it, so from as many threads as those have.
class SpecShelf {
 public:
  virtual ~SpecShelf() = default;
  // One that somebody still holds and that serializes to the same bytes; null: none.
  virtual std::shared_ptr<const farm::v1::JobSpec> Find(const farm::v1::JobSpec& like) = 0;
  // Found from now on while anybody holds it.
  virtual void Add(const std::shared_ptr<const farm::v1::JobSpec>& spec) = 0;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_SPEC_SHELF_H_
