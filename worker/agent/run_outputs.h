// From an engine's events, which name files, to the session's, which name blobs in the cache.
#ifndef STORYFARM_WORKER_AGENT_RUN_OUTPUTS_H_
#define STORYFARM_WORKER_AGENT_RUN_OUTPUTS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "farm/v1/engine.pb.h"
#include "pipeline/base/file_store.h"
#include "worker/agent/pins.h"
#include "worker/core/session.h"

namespace storyfarm::worker {

// Where a run's outputs go.
struct RunPlace {
  uint64_t run = 0;
  std::string folder;  // the engine wrote them here
  std::string owner;   // pins them, by the group's token
};

// The event for the session, with the files it names moved into the cache and pinned; nullopt for events that say
// nothing to it. INVALID_ARGUMENT: the engine names a file outside its folder. RESOURCE_EXHAUSTED: no room.
absl::StatusOr<std::optional<Event>> TakeOutputs(farm::v1::EngineEvent event, const RunPlace& place,
                                                 base::FileStore& cache, Pins& pins);

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_RUN_OUTPUTS_H_
