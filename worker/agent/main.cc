// storyfarm-worker: reads what it was told, opens its data folder and renders until it is told to stop.
#include <grpc/grpc.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "pipeline/base/env.h"
#include "pipeline/base/join_client.h"
#include "pipeline/base/log.h"
#include "pipeline/base/membership.h"
#include "pipeline/base/places.h"
#include "pipeline/base/secret_prompt.h"
#include "pipeline/base/signals.h"
#include "worker/agent/agent.h"
#include "worker/agent/data_folder.h"
#include "worker/agent/doctor.h"
#include "worker/agent/options.h"
#include "worker/engine/client.h"

namespace storyfarm::worker {
namespace {

int Complain(const absl::Status& status, int exit_code) {
  std::fprintf(stderr, "storyfarm-worker: %s\n", std::string(status.message()).c_str());
  return exit_code;
}

std::string HostName() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "worker";
  return name;
}

absl::Status Join(const ProgramOptions& options, base::Env& env) {
  // Held meanwhile: the node id is this worker's.
  const absl::StatusOr<DataFolder> folder = OpenDataFolder(env, options.agent.data_folder);
  if (!folder.ok()) return folder.status();
  const absl::StatusOr<std::string> code = options.join
                                               ? base::ReadSecretLine("Code (from storyctl worker add): ")
                                               : base::ReadSecretFile(env, options.join_with);
  if (!code.ok()) return code.status();
  base::JoinOptions join;
  join.code = *code;
  join.kind = farm::v1::MEMBER_WORKER;
  join.name = options.agent.node_name;
  join.node_id = folder->node_id;
  join.trust_folder = options.agent.link.trust_folder;
  const absl::StatusOr<base::Joined> joined = base::JoinFarm(env, join);
  if (!joined.ok()) return joined.status();
  std::fprintf(stderr, "Joined the farm at %s as %s.\n", joined->farm.c_str(), joined->member.name().c_str());
  return absl::OkStatus();
}

int Work(ProgramOptions options) {
  base::Env& env = base::Env::Real();
  base::Log log = base::Log::ToStderr(options.log_format);
  absl::StatusOr<std::string> engine = engine::FindEngineProgram();
  if (!engine.ok()) return Complain(engine.status(), kExitEngine);
  options.agent.engine_program = *std::move(engine);
  options.agent.software_version = STORYFARM_VERSION;
  if (absl::Status may = base::CheckFarmAccess(env, options.agent.link.coordinator, options.agent.link.trust_folder,
                                               "storyfarm-worker --join");
      !may.ok()) {
    return Complain(may, kExitRefused);
  }
  const std::unique_ptr<Machine> machine = Machine::OfSystem();
  const std::unique_ptr<Wakefulness> wakefulness = Wakefulness::OfSystem();
  AgentParts parts;
  parts.machine = machine.get();
  parts.wakefulness = wakefulness.get();
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
    base::StopWatch signals([&agent, &log] {
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
  const auto read = [argc, argv] {
    return ReadOptions(std::vector<std::string>(argv + 1, argv + argc), base::ProcessVariables(), base::Env::Real(),
                       HostName(), STORYFARM_VERSION);
  };
  absl::StatusOr<ProgramOptions> options = read();
  if (!options.ok()) return Complain(options.status(), kExitUsage);
  if (!options->text.empty()) {
    std::fputs(options->text.c_str(), stdout);
    return kExitOk;
  }
  // Held until the process ends: taking gRPC down with its last channel may wait 10 s for a poller (seen with 1.51).
  grpc_init();
  if (options->doctor) return RunDoctor(options->agent, options->doctor_json);
  // A membership that is there and broken is not replaced unasked: what comes says what is wrong with it.
  const auto not_joined = [&options] {
    return absl::IsNotFound(base::LoadMembership(base::Env::Real(), options->agent.link.trust_folder).status());
  };
  if (options->join || (!options->join_with.empty() && not_joined())) {
    if (absl::Status joined = Join(*options, base::Env::Real()); !joined.ok()) return Complain(joined, kExitRefused);
    options = read();  // the farm that was joined is the default now
    if (!options.ok()) return Complain(options.status(), kExitUsage);
  }
  if (absl::Status installed = base::InstallStopSignals(); !installed.ok()) return Complain(installed, kExitFailure);
  return Work(*options);
}

}  // namespace
}  // namespace storyfarm::worker

int main(int argc, char** argv) { return storyfarm::worker::Main(argc, argv); }
