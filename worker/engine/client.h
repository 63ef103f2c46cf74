// The parent's side of an engine: starts storyfarm-engine as a child process, sends requests, hears events, and tells
// in words why it ended. For worker/agent and `storyctl render`. No torch.
//
//   parent: EngineProcess  --EngineRequest-->  child: storyfarm-engine --fd 3 --device cuda:0
//                          <--EngineEvent---
#ifndef STORYFARM_WORKER_ENGINE_CLIENT_H_
#define STORYFARM_WORKER_ENGINE_CLIENT_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/engine.pb.h"
#include "farm/v1/work.pb.h"

namespace storyfarm::engine {

struct EngineOptions {
  std::string program;         // path of storyfarm-engine
  std::string device = "cpu";  // "cpu", "mps" or "cuda:0"
  int threads = 0;             // CPU threads; 0: as many as the machine lends the process
  uint64_t memory_limit_bytes = 0;  // the most that it may hold of the device; 0: all of it
  std::vector<std::pair<std::string, std::string>> environment;  // added to this process's own
};

// The program beside the running one (bin/storyfarm-engine); what $STORYFARM_ENGINE names wins. NOT_FOUND says where it
// was looked for.
absl::StatusOr<std::string> FindEngineProgram();

// Send and NextEvent may be called from two threads at once; Kill and pid from any.
class EngineProcess {
 public:
  // Starts the child; does not wait for it to come up. NOT_FOUND where the program is missing.
  static absl::StatusOr<std::unique_ptr<EngineProcess>> Start(const EngineOptions& options);

  // Kills a child that still runs, and reaps it.
  ~EngineProcess();
  EngineProcess(const EngineProcess&) = delete;
  EngineProcess& operator=(const EngineProcess&) = delete;

  // UNAVAILABLE: the engine has gone; Ending() says why.
  absl::Status Send(const farm::v1::EngineRequest& request);

  // The next event. DEADLINE_EXCEEDED: none came within `timeout_ms` (negative: waits for ever; 0: only looks).
  // UNAVAILABLE: the engine has gone and no event is left; Ending() says why.
  absl::StatusOr<farm::v1::EngineEvent> NextEvent(int64_t timeout_ms);

  // Readable when NextEvent has something to say, for poll(2).
  int event_fd() const;
  pid_t pid() const;

  // Closes the socket, so that the engine leaves by itself after its run's current step; kills it when it has not gone
  // after `grace_ms`. Safe to call twice.
  void Stop(int64_t grace_ms);
  // SIGKILL, at once. Reaps.
  void Kill();

  // Why the engine is gone: waits until it is (it is, once Send or NextEvent answered UNAVAILABLE). ENGINE_ABORTED, or
  // OUT_OF_MEMORY where the kernel killed it; the message is a sentence with the signal or exit code and the last line
  // that it wrote to stderr.
  farm::v1::Failure Ending();

 private:
  struct State;
  explicit EngineProcess(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace storyfarm::engine

#endif  // STORYFARM_WORKER_ENGINE_CLIENT_H_
