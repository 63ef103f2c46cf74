// Carries out one RunRequest: renders or composes, has the outputs written, tells events.
#ifndef STORYFARM_WORKER_ENGINE_RUN_H_
#define STORYFARM_WORKER_ENGINE_RUN_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/engine.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/render/request.h"
#include "worker/engine/convert.h"
#include "worker/engine/output_lane.h"

namespace storyfarm::engine {

// Banks that are computed elsewhere while a run reads them: where a step lies, waiting for it; and that nobody waits any
// more, as the run ends.
struct Growing {
  GrowingStep step;
  std::function<void()> let_go;
};

// The files that events name lie in run.output_folder(). Errors carry a kind (render::KindOf). When it returns, the device
// is free; pictures may still be on their way in `outputs`, which tells of them as they are written.
absl::StatusOr<farm::v1::RunDone> RunWork(const farm::v1::RunRequest& run, base::Env& env, render::Renderer& renderer,
                                          const Tell& tell, OutputLane::Run& outputs, const Growing& growing = {});

}  // namespace storyfarm::engine

#endif  // STORYFARM_WORKER_ENGINE_RUN_H_
