// storyfarm-coordinator: reads what it was told, holds its data folder, stands the store up and serves until it is told
// to stop.

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "coordinator/rpc/config.h"
#include "coordinator/rpc/listen.h"
#include "coordinator/rpc/server.h"
#include "coordinator/store/data_folder.h"
#include "coordinator/store/private_redis.h"
#include "coordinator/store/redis_store.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"
#include "pipeline/base/places.h"
#include "pipeline/base/signals.h"

namespace storyfarm::coordinator {
namespace {

// Keys in Redis begin with it; one farm a coordinator, so that a person finds it under one name.
constexpr char kFarm[] = "farm";

int Complain(const absl::Status& status, int exit_code) {
  std::fprintf(stderr, "storyfarm-coordinator: %s\n", std::string(status.message()).c_str());
  return exit_code;
}

int StoreExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kAborted:
      return kExitTakenOver;
    case absl::StatusCode::kDataLoss:
      return kExitDataDamaged;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
      return kExitStore;
    default:
      return kExitFailure;
  }
}

int StartExitCode(const absl::Status& status) {
  if (absl::IsInvalidArgument(status)) return kExitUsage;
  if (absl::IsAlreadyExists(status)) return kExitAddress;
  return StoreExitCode(status);
}

struct Standing {
  std::unique_ptr<PrivateRedis> redis;  // null: the user's own
  std::unique_ptr<Store> store;
};

absl::Status StandStoreUp(const Config& config, base::Env& env, Standing& standing) {
  RedisOptions options;
  if (config.redis.empty()) {
    PrivateRedisOptions start;
    start.data_folder = config.data;
    absl::StatusOr<std::unique_ptr<PrivateRedis>> redis = PrivateRedis::Start(&env, start);
    if (!redis.ok()) return redis.status();
    standing.redis = *std::move(redis);
    options = standing.redis->Options();
  } else {
    absl::StatusOr<RedisAddress> address = ParseRedisAddress(config.redis);
    if (!address.ok()) return address.status();
    options.address = *std::move(address);
    options.password_file = config.redis_password_file;
  }
  standing.store = std::make_unique<RedisStore>(std::move(options), kFarm);
  return absl::OkStatus();
}

// What a person or a script waits for: where it serves. The file comes last: who waits for it finds the line, too.
absl::Status Announce(const Config& config, const std::string& socket_path, int port, base::Env& env) {
  std::string line = absl::StrCat("storyfarm-coordinator serves on unix:", socket_path);
  if (!config.listen.empty()) {
    absl::StrAppend(&line, " and ", config.listen.substr(0, config.listen.rfind(':')), ":", port);
  }
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
  if (config.port_file.empty()) return absl::OkStatus();
  return env.WriteFileDurably(config.port_file, absl::StrCat(port, "\n"));
}

int Serve(Config config, base::LogFormat format) {
  base::Env& env = base::Env::Real();
  base::Log log = base::Log::ToStderr(format);
  std::error_code error;
  config.data = std::filesystem::absolute(config.data, error).lexically_normal().string();
  while (config.data.size() > 1 && config.data.back() == '/') config.data.pop_back();

  const absl::StatusOr<std::unique_ptr<DataFolder>> folder = DataFolder::Open(&env, config.data);
  if (!folder.ok()) return Complain(folder.status(), kExitDataFolder);
  const std::string socket_path = base::CoordinatorSocket(config.data);
  if (absl::Status status = PrepareSocket(socket_path); !status.ok()) {
    return Complain(status, absl::IsAlreadyExists(status) ? kExitAddress : kExitDataFolder);
  }
  Standing standing;
  if (absl::Status status = StandStoreUp(config, env, standing); !status.ok()) {
    return Complain(status, absl::IsInvalidArgument(status) ? kExitUsage : kExitStore);
  }
  ServerOptions options;
  options.data_folder = config.data;
  options.socket_path = socket_path;
  options.listen = config.listen;
  options.software_version = STORYFARM_VERSION;
  if (base::FolderOf(options.socket_path) != config.data) {
    log.Info("the data folder's path is too long for a socket, which lies elsewhere",
             {{"socket", options.socket_path}});
  }
  ServerParts parts;
  parts.env = &env;
  parts.log = &log;
  parts.store = standing.store.get();
  parts.random_bits = [&env] {
    uint64_t bits = 0;
    std::memcpy(&bits, env.RandomBytes(sizeof(bits)).data(), sizeof(bits));
    return bits;
  };
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options, parts);
  if (!server.ok()) return Complain(server.status(), StartExitCode(server.status()));
  if (absl::Status status = Announce(config, options.socket_path, (*server)->port(), env); !status.ok()) {
    return Complain(status, kExitFailure);
  }
  absl::Status why;
  {
    base::StopWatch signals([&server, &log] {
      log.Info("stopping: no new calls, what was accepted is made safe");
      (*server)->Drain();
    });
    why = (*server)->Wait();
  }
  if (!config.port_file.empty())
    env.Remove(config.port_file).IgnoreError();  // a stale one is replaced at the next start
  server->reset();
  if (!why.ok()) return Complain(why, StoreExitCode(why));
  log.Info("stopped");
  return kExitOk;
}

int Main(int argc, char** argv) {
  const absl::StatusOr<ConfigOrText> read = ReadConfig(std::vector<std::string>(argv + 1, argv + argc),
                                                       base::ProcessVariables(), base::Env::Real(), STORYFARM_VERSION);
  if (!read.ok()) return Complain(read.status(), kExitUsage);
  if (!read->text.empty()) {
    std::fputs(read->text.c_str(), stdout);
    return kExitOk;
  }
  const absl::StatusOr<base::LogFormat> format = base::ParseLogFormat(read->config.log_format);
  if (!format.ok()) return Complain(format.status(), kExitUsage);
  if (absl::Status status = base::InstallStopSignals(); !status.ok()) return Complain(status, kExitFailure);
  return Serve(read->config, *format);
}

}  // namespace
}  // namespace storyfarm::coordinator

int main(int argc, char** argv) { return storyfarm::coordinator::Main(argc, argv); }
