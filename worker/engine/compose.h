// Page work: pictures and captions to a page's PNG, or to the book's PDF and CBZ.
#ifndef STORYFARM_WORKER_ENGINE_COMPOSE_H_
#define STORYFARM_WORKER_ENGINE_COMPOSE_H_

#include <string>

#include "absl/status/statusor.h"
#include "farm/v1/engine.pb.h"
#include "farm/v1/work.pb.h"
#include "pipeline/base/env.h"
#include "worker/engine/convert.h"

namespace storyfarm::engine {

// Writes into `folder`. Errors as pipeline/page's; kind BLOB_UNAVAILABLE where a picture or font was not given.
absl::StatusOr<farm::v1::PagesDone> ComposePages(const farm::v1::PageWork& work, const FilesByDigest& files,
                                                 base::Env& env, const std::string& folder);

}  // namespace storyfarm::engine

#endif  // STORYFARM_WORKER_ENGINE_COMPOSE_H_
