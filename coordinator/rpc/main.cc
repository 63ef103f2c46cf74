// storyfarm-coordinator: reads what it was told, holds its data folder, stands the store up and leads or stands by
// until it is told to stop.

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/rpc/config.h"
#include "coordinator/rpc/coordinator.h"
#include "coordinator/rpc/listen.h"
#include "coordinator/rpc/log_book.h"
#include "coordinator/rpc/web_door.h"
#include "coordinator/rpc/web_tunnels.h"
#include "coordinator/rpc/webhooks.h"
#include "coordinator/store/data_folder.h"
#include "coordinator/store/private_redis.h"
#include "coordinator/store/redis_store.h"
#include "coordinator/web/web_server.h"
#include "coordinator/web/webhook.h"
#include "pipeline/base/env.h"
#include "pipeline/base/join_client.h"
#include "pipeline/base/log.h"
#include "pipeline/base/membership.h"
#include "pipeline/base/places.h"
#include "pipeline/base/program_folder.h"
#include "pipeline/base/secret_prompt.h"
#include "pipeline/base/signals.h"

#if defined(__GLIBC__)  // known from the headers above
#include <malloc.h>
#endif

namespace storyfarm::coordinator {
namespace {

// Keys in Redis begin with it; one farm a coordinator, so that a person finds it under one name.
constexpr char kFarm[] = "farm";
// For --web: no page.
constexpr char kNoWeb[] = "off";

#if defined(__GLIBC__)
// Buffers of this size and more (a story as it comes, its record, a piece of a snapshot) go back to the system when they
// are freed. By itself the C library soon cuts them from its heaps, whose holes stay with the process.
constexpr int kOwnMappingBytes = 1 << 20;
#endif

int Complain(const absl::Status& status, int exit_code) {
  std::fprintf(stderr, "storyfarm-coordinator: %s\n", std::string(status.message()).c_str());
  return exit_code;
}

int StoreExitCode(const absl::Status& status) {
  switch (status.code()) {
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
  if (absl::IsUnauthenticated(status)) return kExitTrust;
  return StoreExitCode(status);
}

int WebExitCode(const absl::Status& status) {
  if (absl::IsInvalidArgument(status)) return kExitUsage;
  return absl::IsAlreadyExists(status) ? kExitAddress : kExitDataFolder;
}

// coordinator/web as the server wants it.
class HttpSender : public WebhookSender {
 public:
  explicit HttpSender(std::unique_ptr<Webhook> webhook) : webhook_(std::move(webhook)) {}
  absl::Status Post(const std::string& body) override { return webhook_->Post(body); }
  void Interrupt() override { webhook_->Interrupt(); }

 private:
  const std::unique_ptr<Webhook> webhook_;
};

// The farm's page. Null where there is to be none.
absl::StatusOr<std::unique_ptr<WebServer>> StartWeb(const Config& config, FarmDoor& door, base::Env& env,
                                                    base::Log& log) {
  if (config.web == kNoWeb) return nullptr;
  absl::StatusOr<std::string> address = LoopbackAddress(config.web);
  if (!address.ok()) return address.status();
  WebOptions options;
  options.address = *std::move(address);
  options.or_any_port = config.web_unsaid;
  options.folder = base::JoinPath(config.data, "web");
  options.software_version = STORYFARM_VERSION;
  if (!config.network.empty()) {
    for (const auto role : {farm::v1::ROLE_VIEWER, farm::v1::ROLE_SUBMITTER, farm::v1::ROLE_ADMIN}) {
      std::string path = VisitorSocket(config.data, role);
      if (absl::Status status = PrepareSocket(path); !status.ok()) return status;
      options.visitor_sockets[role] = std::move(path);
    }
  }
  return WebServer::Start(options, {&env, &log, &door});
}

struct Standing {
  std::unique_ptr<PrivateRedis> redis;  // null: the user's own
  std::unique_ptr<Store> store;
};

absl::Status StandStoreUp(const Config& config, const std::string& name, base::Env& env, Standing& standing) {
  RedisOptions options;
  if (config.redis.empty()) {
    PrivateRedisOptions start;
    start.data_folder = config.data;
    // A bundle carries one; elsewhere it is the system's.
    if (std::string carried = base::ProgramBeside("redis-server"); !carried.empty()) start.program = std::move(carried);
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
  standing.store = std::make_unique<RedisStore>(std::move(options), kFarm, name);
  return absl::OkStatus();
}

// What a person or a script waits for: where it answers. The file comes last: who waits for it finds the line, too.
absl::Status Announce(const Config& config, const std::string& socket_path, const WebServer* web, const Ports& ports, bool leads,
                      base::Env& env) {
  std::string line = absl::StrCat("storyfarm-coordinator ", leads ? "serves" : "stands by", " on unix:", socket_path);
  if (!config.listen.empty()) {
    absl::StrAppend(&line, " and ", WithPort(config.listen, ports.listen));
  }
  if (ports.network > 0) {
    absl::StrAppend(&line, "; other machines: ", WithPort(config.network, ports.network));
    if (ports.join > 0) absl::StrAppend(&line, ", joining at port ", ports.join);
  }
  if (web != nullptr) absl::StrAppend(&line, "; its page is ", web->url(), " (storyctl web opens it)");
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
  if (config.port_file.empty()) return absl::OkStatus();
  return env.WriteFileDurably(config.port_file, absl::StrCat(ports.listen, "\n"));
}

// Who this is among those that may lead, for the store and for people.
std::string NameOf(const DataFolder& folder) {
  char host[256] = {};
  if (gethostname(host, sizeof(host) - 1) != 0) host[0] = '\0';
  return absl::StrCat("coordinator ", folder.id().substr(0, 8), " (", host, ":", folder.path(), ")");
}

bool WantsToJoin(const Config& config, base::Env& env) {
  if (config.join) return true;
  return !config.join_with.empty() && !env.Exists(base::AuthorityKeyFile(base::TrustFolder(config.data)));
}

// Gets the farm's authority by a code.
absl::Status Join(const Config& config, const std::string& folder_id, base::Env& env) {
  const absl::StatusOr<std::string> code = config.join
                                               ? base::ReadSecretLine("Code (from storyctl coordinator add): ")
                                               : base::ReadSecretFile(env, config.join_with);
  if (!code.ok()) return code.status();
  base::JoinOptions options;
  options.code = *code;
  options.kind = farm::v1::MEMBER_COORDINATOR;
  options.name = absl::StrCat("coordinator-", folder_id.substr(0, 8));
  options.trust_folder = base::TrustFolder(config.data);
  return base::JoinFarm(env, options).status();
}

absl::Status MakeAbsolute(std::string& folder) {
  std::error_code error;
  folder = std::filesystem::absolute(folder, error).lexically_normal().string();
  if (error) return absl::InvalidArgumentError(absl::StrCat(folder, ": ", error.message()));
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  return absl::OkStatus();
}

// Makes its paths absolute; INVALID_ARGUMENT where one can't be, or the webhook's or the page's address is none.
absl::Status Prepare(Config& config) {
  absl::Status status = MakeAbsolute(config.data);
  if (status.ok() && !config.blobs.empty()) status = MakeAbsolute(config.blobs);
  if (status.ok() && !config.webhook.empty()) status = Webhook::To(config.webhook).status();
  if (status.ok() && config.web != kNoWeb) status = LoopbackAddress(config.web).status();
  return status;
}

int Serve(Config config, base::LogFormat format) {
  base::Env& env = base::Env::Real();
  const auto random_bits = [&env] {
    uint64_t bits = 0;
    std::memcpy(&bits, env.RandomBytes(sizeof(bits)).data(), sizeof(bits));
    return bits;
  };
  LogBook log_book(random_bits() | 1);
  base::Log log = base::Log::ToStderr(format, [&log_book](const base::LogLine& line) { log_book.Add(line); });
  if (const absl::Status status = Prepare(config); !status.ok()) return Complain(status, kExitUsage);

  const absl::StatusOr<std::unique_ptr<DataFolder>> folder = DataFolder::Open(&env, config.data);
  if (!folder.ok()) return Complain(folder.status(), kExitDataFolder);
  const std::string socket_path = base::CoordinatorSocket(config.data);
  if (absl::Status status = PrepareSocket(socket_path); !status.ok()) {
    return Complain(status, absl::IsAlreadyExists(status) ? kExitAddress : kExitDataFolder);
  }
  if (WantsToJoin(config, env)) {
    if (absl::Status joined = Join(config, (*folder)->id(), env); !joined.ok()) return Complain(joined, kExitTrust);
  }
  Standing standing;
  const std::string name = NameOf(**folder);
  if (absl::Status status = StandStoreUp(config, name, env, standing); !status.ok()) {
    return Complain(status, absl::IsInvalidArgument(status) ? kExitUsage : kExitStore);
  }
  CoordinatorOptions options;
  options.name = name;
  options.alone = config.redis.empty();
  options.server.data_folder = config.data;
  options.server.blob_folder = config.blobs;
  options.server.blobs_shared = !config.blobs.empty();
  options.server.socket_path = socket_path;
  options.server.listen = config.listen;
  options.server.network = config.network;
  options.server.join_port = config.join_port_number;
  options.server.advertise = config.advertise_hosts;
  options.server.software_version = STORYFARM_VERSION;
  options.server.blob_quota_bytes = config.blob_quota_bytes;
  options.server.low_disk_bytes = config.low_disk_bytes;
  options.server.farm.keep_finished_ms = config.keep_finished_ms;
  options.server.farm.keep_finished_jobs = config.keep_finished_jobs;
  options.server.farm.pack_budget_bytes = config.pack_budget_bytes;
  if (base::FolderOf(socket_path) != config.data) {
    log.Info("the data folder's path is too long for a socket, which lies elsewhere", {{"socket", socket_path}});
  }
  ServerParts parts;
  parts.env = &env;
  parts.log = &log;
  parts.store = standing.store.get();
  parts.log_book = &log_book;
  parts.random_bits = random_bits;
  if (!config.webhook.empty()) {
    parts.webhook = [url = config.webhook] { return std::make_unique<HttpSender>(*Webhook::To(url)); };
  }
  const std::unique_ptr<FarmDoor> door = OpenWebDoor(absl::StrCat("unix:", socket_path));
  const absl::StatusOr<std::unique_ptr<WebServer>> web = StartWeb(config, *door, env, log);
  if (!web.ok()) return Complain(web.status(), WebExitCode(web.status()));
  if (*web != nullptr) {
    parts.open_web = [server = web->get()](const farm::v1::OpenWebRequest& request) { return server->OpenLink(request); };
    if (!config.network.empty()) {
      parts.visitor_socket = [&config](farm::v1::Role role) { return VisitorSocket(config.data, role); };
    }
  }
  bool announced = false;
  Coordinator::Events events;
  events.listens = [&](const Ports& ports, bool leads) {
    announced = true;
    const absl::Status status = Announce(config, socket_path, web->get(), ports, leads, env);
    return status.ok() ? status : absl::UnknownError(status.message());  // nothing that StoreExitCode knows
  };
  Coordinator coordinator(options, parts, std::move(events));
  absl::Status why;
  {
    base::StopWatch signals([&coordinator, &log] {
      log.Info("stopping: no new calls, what was accepted is made safe");
      coordinator.Stop();
    });
    why = coordinator.Run();
  }
  if (announced && !config.port_file.empty())
    env.Remove(config.port_file).IgnoreError();  // a stale one is replaced at the next start
  if (!why.ok()) return Complain(why, StartExitCode(why));
  log.Info("stopped");
  return kExitOk;
}

int Main(int argc, char** argv) {
  // gRPC locks with abseil's mutexes, of which some builds (Debian's) look for deadlocks at each step: 4 % of the time of
  // a coordinator under load.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, kOwnMappingBytes);
#endif
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
