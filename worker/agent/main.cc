// storyfarm-worker: reads what it was told, opens its data folder and renders until it is told to stop.
#include <fcntl.h>
#include <grpc/grpc.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"
#include "pipeline/base/places.h"
#include "worker/agent/agent.h"
#include "worker/agent/options.h"
#include "worker/engine/client.h"

namespace storyfarm::worker {
namespace {

// ---- Signals: a handler may do little more than write to a pipe.

int signal_pipe[2] = {-1, -1};
volatile sig_atomic_t signals_seen = 0;

extern "C" void OnSignal(int number) {
  if (signals_seen != 0)
    _exit(128 + number);  // the second one: engines end with their sockets, results are in the outbox
  signals_seen = 1;
  const char byte = 1;
  const int saved = errno;
  if (write(signal_pipe[1], &byte, 1) != 1) _exit(128 + number);
  errno = saved;
}

absl::Status InstallSignals() {
  if (pipe(signal_pipe) != 0) return base::ErrorFromErrno(errno, "open a pipe for", "signals");
  for (const int fd : signal_pipe) fcntl(fd, F_SETFD, FD_CLOEXEC);
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = SIG_IGN;  // an engine that went away is an error of a write, not a reason to die
  sigaction(SIGPIPE, &action, nullptr);
  return absl::OkStatus();
}

// Calls `drain` when the first signal comes; ends with the object.
class SignalWatch {
 public:
  explicit SignalWatch(std::function<void()> drain)
      : thread_([drain = std::move(drain)] {
          char byte = 0;
          ssize_t got = 0;
          do {
            got = read(signal_pipe[0], &byte, 1);
            if (got == 1 && byte == 1) drain();
          } while ((got < 0 && errno == EINTR) || (got == 1 && byte == 1));
        }) {}
  ~SignalWatch() {
    const char byte = 0;
    // The pipe never holds more than two bytes: this can't fail or block.
    if (write(signal_pipe[1], &byte, 1) == 1) thread_.join();
  }

 private:
  std::thread thread_;
};

int Complain(const absl::Status& status, int exit_code) {
  std::fprintf(stderr, "storyfarm-worker: %s\n", std::string(status.message()).c_str());
  return exit_code;
}

std::string HostName() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "worker";
  return name;
}

int Work(ProgramOptions options) {
  base::Env& env = base::Env::Real();
  base::Log log = base::Log::ToStderr(options.log_format);
  absl::StatusOr<std::string> engine = engine::FindEngineProgram();
  if (!engine.ok()) return Complain(engine.status(), kExitEngine);
  options.agent.engine_program = *std::move(engine);
  options.agent.software_version = STORYFARM_VERSION;
  AgentParts parts;
  parts.env = &env;
  parts.log = &log;
  parts.random_bits = [&env] {
    uint64_t bits = 0;
    std::memcpy(&bits, env.RandomBytes(sizeof(bits)).data(), sizeof(bits));
    return bits;
  };
  absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Open(options.agent, parts);
  if (!agent.ok()) return Complain(agent.status(), kExitDataFolder);
  log.Info("worker starts", {{"node", (*agent)->node_id()},
                             {"name", options.agent.node_name},
                             {"version", STORYFARM_VERSION},
                             {"coordinator", options.agent.link.coordinator}});
  absl::Status why;
  {
    SignalWatch signals([&agent, &log] {
      log.Info("leaving: what runs is finished and delivered; a second signal leaves at once");
      (*agent)->Drain();
    });
    why = (*agent)->Run();
  }
  if (!why.ok()) return Complain(why, absl::IsFailedPrecondition(why) ? kExitRefused : kExitEngine);
  log.Info("left");
  return kExitOk;
}

int Main(int argc, char** argv) {
  const absl::StatusOr<ProgramOptions> options =
      ReadOptions(std::vector<std::string>(argv + 1, argv + argc), base::ProcessVariables(), base::Env::Real(),
                  HostName(), STORYFARM_VERSION);
  if (!options.ok()) return Complain(options.status(), kExitUsage);
  if (!options->text.empty()) {
    std::fputs(options->text.c_str(), stdout);
    return kExitOk;
  }
  // Held until the process ends: taking gRPC down with its last channel may wait 10 s for a poller (seen with 1.51).
  grpc_init();
  if (absl::Status installed = InstallSignals(); !installed.ok()) return Complain(installed, kExitFailure);
  return Work(*options);
}

}  // namespace
}  // namespace storyfarm::worker

int main(int argc, char** argv) { return storyfarm::worker::Main(argc, argv); }
