// Carries out one RunRequest: renders or composes, writes the outputs, tells events.
#ifndef STORYFARM_WORKER_ENGINE_RUN_H_
#define STORYFARM_WORKER_ENGINE_RUN_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/engine.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/render/request.h"
#include "worker/engine/convert.h"

namespace storyfarm::engine {

// Sends an event without its request id. An error stops the run.
using Tell = std::function<absl::Status(farm::v1::EngineEvent)>;

// Banks that are computed elsewhere while a run reads them: where a step lies, waiting for it; and that nobody waits any
// more, as the run ends.
struct Growing {
  GrowingStep step;
  std::function<void()> let_go;
};

// The files that events name lie in run.output_folder(). Errors carry a kind (render::KindOf).
absl::StatusOr<farm::v1::RunDone> RunWork(const farm::v1::RunRequest& run, base::Env& env, render::Renderer& renderer,
                                          const Tell& tell, const Growing& growing = {});

}  // namespace storyfarm::engine

#endif  // STORYFARM_WORKER_ENGINE_RUN_H_
