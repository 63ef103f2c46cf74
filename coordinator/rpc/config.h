// What storyfarm-coordinator was told: flags over STORYFARM_* in the environment over one YAML file over defaults.
#ifndef STORYFARM_COORDINATOR_RPC_CONFIG_H_
#define STORYFARM_COORDINATOR_RPC_CONFIG_H_

#include <cstddef>
#include <cstdint>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/base/places.h"

namespace storyfarm::coordinator {

// What the program ends with; printed by --help.
enum ExitCode {
  kExitOk = 0,
  kExitFailure = 1,      // anything else
  kExitUsage = 2,        // a flag, variable or key that makes no sense, or an address that others can reach
  kExitAddress = 3,      // port or socket taken
  kExitStore = 4,        // Redis is missing, can't be reached, or keeps no data
  kExitDataFolder = 5,   // not writable, from a newer version, or in use by another coordinator
  kExitDataDamaged = 7,  // the log or a snapshot can't be read
  kExitTrust = 8,        // it could not join, or the farm's members trust another authority than it has
};

struct Config {
  std::string data;
  std::string blobs;
  std::string listen;
  std::string port_file;
  std::string network;
  std::string join_port;
  std::string advertise;
  bool join = false;      // join a farm first, with a code that is asked for
  std::string join_with;  // where not empty: the same with the code in this file, unless it has joined before
  std::string redis;
  std::string redis_password_file;
  std::string log_format;
  std::string keep_days;
  std::string keep_jobs;
  std::string blob_quota;
  std::string pack_budget;
  uint64_t pack_budget_bytes = 0;  // what that says, or its default
  std::string low_disk;
  std::string webhook;
  std::string web;
  int join_port_number = 0;                  // the port after --network's where nothing is said; 0: any free one
  std::vector<std::string> advertise_hosts;  // empty: this machine's own
  // What the others say; 0: no bound.
  uint64_t keep_finished_ms = 0;
  size_t keep_finished_jobs = 0;
  uint64_t blob_quota_bytes = 0;
  uint64_t low_disk_bytes = 0;
  bool web_unsaid = false;  // nobody named an address for the page: any port will do where the usual one is taken
};

struct ConfigOrText {
  Config config;
  std::string text;  // not empty: print this and leave with kExitOk (--help, --version)
};

// `arguments`: without the program's name. INVALID_ARGUMENT: a sentence that says what is wrong and where it was said.
absl::StatusOr<ConfigOrText> ReadConfig(const std::vector<std::string>& arguments, const base::Variables& variables,
                                        base::Env& env, const std::string& version);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_CONFIG_H_
