// What storyfarm-worker was told: flags over STORYFARM_* in the environment over one YAML file over defaults.
#ifndef STORYFARM_WORKER_AGENT_OPTIONS_H_
#define STORYFARM_WORKER_AGENT_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"
#include "pipeline/base/places.h"
#include "worker/agent/agent.h"

namespace storyfarm::worker {

// What the program ends with; printed by --help.
enum ExitCode {
  kExitOk = 0,
  kExitFailure = 1,     // anything else
  kExitUsage = 2,       // a flag, variable or key that makes no sense
  kExitDataFolder = 3,  // not writable, from a newer version, or in use by another worker
  kExitEngine = 4,      // the engine program is missing, or a device does not work
  kExitRefused = 5,     // the coordinator does not take this worker: its version, its node id, its certificate
};

struct ProgramOptions {
  AgentOptions agent;  // but for engine_program and software_version
  base::LogFormat log_format = base::LogFormat::kText;
  bool join = false;      // join a farm first, with a code that is asked for
  std::string join_with;  // where not empty: join first, with the code in this file, unless it has joined before
  bool doctor = false;       // say what is wrong with this machine or its farm, and leave
  bool doctor_json = false;  // as JSON
  std::string text;  // not empty: print this and leave with kExitOk (--help, --version)
};

// `arguments`: without the program's name. `host_name` is the default of --name. INVALID_ARGUMENT: a sentence that says
// what is wrong and where it was said.
absl::StatusOr<ProgramOptions> ReadOptions(const std::vector<std::string>& arguments, const base::Variables& variables,
                                           base::Env& env, const std::string& host_name, const std::string& version);

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_OPTIONS_H_
