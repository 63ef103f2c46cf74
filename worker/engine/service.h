// The engine's side of its socket: takes EngineRequests, runs them one after the other, tells events as they happen. While
// a run's pictures are encoded the next one draws, and pages are composed beside both.
// For the program storyfarm-engine, which does nothing else. No torch here: the renderer is behind
// pipeline/render/request.h.
//
//   parent ──EngineRequest──> reader thread ──┬─ MemoryRequest: answered at once, also during a run
//                                             ├─ BankStepHere ──> BankFeed, where a run waits for it
//                                             ├─ Run of pages ──> composer's thread ──> page
//                                             └─ Probe, Run ──> queue ──> Serve's thread ──> render ──> OutputLane
//   parent <──EngineEvent─────────────────────────────────────────────────────────────────────┘
//
// Read run.h next (one Work), then convert.h (messages to the renderer's structs) and outputs.h (files).
#ifndef STORYFARM_WORKER_ENGINE_SERVICE_H_
#define STORYFARM_WORKER_ENGINE_SERVICE_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "pipeline/base/env.h"
#include "pipeline/render/request.h"

namespace storyfarm::engine {

// Requests waiting behind the running one. A parent sends the next when it has heard the last step of the one before; more
// means that it has lost count, and they are answered with BAD_INPUT.
inline constexpr size_t kMaxQueuedRequests = 4;

// After the parent has gone a run ends at its next step. An engine stuck in the middle of a step leaves after this.
inline constexpr int kLeaveAfterMs = 30'000;

// Serves the socket `fd` until the parent closes it, then returns OK. UNAVAILABLE or DATA_LOSS: the socket broke or
// carried something that is no request.
absl::Status Serve(int fd, base::Env& env, render::Renderer& renderer, int threads);

}  // namespace storyfarm::engine

#endif  // STORYFARM_WORKER_ENGINE_SERVICE_H_
