#include "coordinator/store/private_redis.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/places.h"

namespace storyfarm::coordinator {
namespace {

constexpr uint64_t kOldestMajor = 6;  // XTRIM MINID came with 6.2
constexpr uint64_t kOldestMinor = 2;
constexpr int64_t kPollMs = 20;
// Redis ends within milliseconds of SIGTERM; with a rewrite under way it may take seconds.
constexpr absl::Duration kStopGrace = absl::Seconds(10);
constexpr size_t kLogTailBytes = 600;

uint64_t Number(const std::string& text) {
  uint64_t number = 0;
  return absl::SimpleAtoi(text, &number) ? number : 0;
}

// "Redis server v=7.0.15 sha=..." -> "7.0.15"
std::string VersionIn(const std::string& line) {
  const size_t at = line.find("v=");
  return at == std::string::npos ? "" : line.substr(at + 2, line.find(' ', at) - at - 2);
}

// In the folder, or, where that is too long for a socket, below /tmp in a folder that only this user may enter.
absl::StatusOr<std::string> SocketFor(base::Env* env, const std::string& folder) {
  std::string path = base::JoinPath(folder, "redis.sock");
  if (path.size() <= base::kMaxSocketPathBytes) return path;
  const std::string shelter = absl::StrCat("/tmp/storyfarm-", getuid());
  if (absl::Status status = env->CreateFolders(shelter); !status.ok()) return status;
  struct stat info {};
  if (lstat(shelter.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != getuid() ||
      (info.st_mode & 077) != 0) {
    return absl::PermissionDeniedError(absl::StrCat(
        shelter, " must be a folder of yours that nobody else can enter (chmod 700): Redis's socket goes there"));
  }
  return base::JoinPath(shelter, absl::StrCat(base::Digest::Of(folder).ShortHex(), ".redis.sock"));
}

}  // namespace

PrivateRedis::PrivateRedis(base::Env* env, PrivateRedisOptions options, std::string folder, std::string socket_path)
    : env_(env), options_(std::move(options)), folder_(std::move(folder)), socket_path_(std::move(socket_path)) {}

absl::StatusOr<std::unique_ptr<PrivateRedis>> PrivateRedis::Start(base::Env* env, const PrivateRedisOptions& options) {
  const std::string folder = base::JoinPath(options.data_folder, "redis");
  if (absl::Status status = env->CreateFolders(folder); !status.ok()) return status;
  absl::StatusOr<std::string> socket_path = SocketFor(env, folder);
  if (!socket_path.ok()) return socket_path.status();
  std::unique_ptr<PrivateRedis> redis(new PrivateRedis(env, options, folder, *socket_path));
  if (absl::Status status = redis->EnsureRunning(); !status.ok()) return status;
  return redis;
}

absl::Status PrivateRedis::Ping() {
  RedisOptions options;
  options.address.socket_path = socket_path_;
  options.command_ms = 2000;
  RedisConnection connection(options);
  const absl::StatusOr<RedisReply> reply = connection.Command({"INFO", "server"});
  if (!reply.ok()) return reply.status();
  if (reply->kind == RedisReply::Kind::kError) return absl::DeadlineExceededError(reply->text);
  adopted_pid_ = 0;
  for (const absl::string_view line : absl::StrSplit(reply->text, "\r\n")) {
    absl::string_view pid = line;
    if (absl::ConsumePrefix(&pid, "process_id:")) adopted_pid_ = static_cast<int>(Number(std::string(pid)));
  }
  // INFO is answered while the log is loaded, a read is not.
  const absl::StatusOr<RedisReply> dir = connection.Command({"CONFIG", "GET", "dir"});
  const absl::StatusOr<RedisReply> read = connection.Command({"EXISTS", "storyfarm"});
  if (!dir.ok() || !read.ok() || read->kind == RedisReply::Kind::kError) {
    return absl::DeadlineExceededError("it loads its log");
  }
  return absl::OkStatus();
}

absl::Status PrivateRedis::EnsureRunning() {
  const absl::Status up = Ping();
  if (up.ok()) return up;
  if (absl::IsDeadlineExceeded(up)) {
    // It loads its log, or it is ending this moment.
    const absl::Status waited = WaitUntilUp();
    if (waited.ok() || absl::IsDeadlineExceeded(waited)) return waited;
  }
  // Nobody listens: ours is dying, or it lost its socket and is of no use.
  if (child_ != nullptr) child_->Stop(kStopGrace);
  // Once: later on it may be the disk that is full, where no version can be written down.
  if (!checked_) {
    if (absl::Status status = CheckProgram(); !status.ok()) return status;
    checked_ = true;
  }
  return Launch();
}

absl::Status PrivateRedis::CheckProgram() {
  base::SubprocessOptions ask;
  ask.program = options_.program;
  ask.arguments = {"--version"};
  ask.output_file = base::JoinPath(folder_, "version.txt");
  if (env_->Exists(ask.output_file)) {
    if (absl::Status status = env_->Remove(ask.output_file); !status.ok()) return status;
  }
  absl::StatusOr<std::unique_ptr<base::Subprocess>> child = base::Subprocess::Start(ask);
  if (!child.ok()) {
    if (!absl::IsNotFound(child.status()) && !absl::IsPermissionDenied(child.status())) return child.status();
    return absl::NotFoundError(absl::StrCat("redis-server is not installed (", options_.program,
                                            "): run tools/setup, or name a Redis of yours with --redis"));
  }
  (*child)->Wait(absl::Seconds(10));
  const absl::StatusOr<std::string> answer = env_->ReadFile(ask.output_file, 4096);
  if (!answer.ok()) return answer.status();
  const std::string version = VersionIn(*answer);
  const std::vector<std::string> parts = absl::StrSplit(version, '.');
  if (version.empty() || parts.size() < 2) {
    return absl::FailedPreconditionError(
        absl::StrCat(options_.program, " --version said: ", *answer, ". Is it a Redis server?"));
  }
  if (Number(parts[0]) * 100 + Number(parts[1]) < kOldestMajor * 100 + kOldestMinor) {
    return absl::FailedPreconditionError(
        absl::StrCat(options_.program, " is Redis ", version, ", at least ", kOldestMajor, ".", kOldestMinor,
                     " is needed: run tools/setup, or name a newer Redis with --redis"));
  }
  return absl::OkStatus();
}

absl::Status PrivateRedis::Launch() {
  base::SubprocessOptions start;
  start.program = options_.program;
  start.arguments = {"--port",
                     "0",
                     "--unixsocket",
                     socket_path_,
                     "--unixsocketperm",
                     "700",
                     "--dir",
                     folder_,
                     "--save",
                     "",
                     "--appendonly",
                     "yes",
                     "--appendfsync",
                     "always",
                     "--maxmemory-policy",
                     "noeviction",
                     "--aof-load-truncated",
                     "yes",
                     "--daemonize",
                     "no"};
  start.output_file = base::JoinPath(folder_, "redis.log");
  start.folder = folder_;
  // It outlives a coordinator that is killed, and the next one adopts it: nothing has to be loaded again.
  start.die_with_parent = false;
  absl::StatusOr<std::unique_ptr<base::Subprocess>> child = base::Subprocess::Start(start);
  if (!child.ok()) return child.status();
  child_ = *std::move(child);
  return WaitUntilUp();
}

absl::Status PrivateRedis::WaitUntilUp() {
  const int64_t until_ms = env_->MonotonicMs() + options_.start_ms;
  absl::Status up;
  while (env_->MonotonicMs() < until_ms) {
    up = Ping();
    if (up.ok()) return up;
    if (child_ != nullptr && child_->Status().has_value()) {
      const std::string log_file = base::JoinPath(folder_, "redis.log");
      const absl::StatusOr<std::string> log = env_->ReadFile(log_file);
      const std::string tail =
          !log.ok() || log->empty() ? "" : log->substr(log->size() - std::min(log->size(), kLogTailBytes));
      return absl::FailedPreconditionError(absl::StrCat("the private Redis server ", child_->Status()->ToString(),
                                                        " while starting. The end of ", log_file, ": ", tail));
    }
    if (child_ == nullptr && absl::IsUnavailable(up)) return up;  // what was to be adopted is gone: call again
    absl::SleepFor(absl::Milliseconds(kPollMs));
  }
  return absl::DeadlineExceededError(
      absl::StrCat("the private Redis server did not answer within ", options_.start_ms / 1000, " s: ", up.message()));
}

int PrivateRedis::pid() const { return child_ != nullptr ? child_->pid() : adopted_pid_; }

RedisOptions PrivateRedis::Options() {
  RedisOptions options;
  options.address.socket_path = socket_path_;
  options.before_connect = [this] { return EnsureRunning(); };
  return options;
}

PrivateRedis::~PrivateRedis() {
  if (child_ != nullptr) {
    child_->Stop(kStopGrace);
    return;
  }
  if (adopted_pid_ <= 0) return;
  // Not a child of this process: told by its own command, and seen to end when nobody listens any more.
  RedisOptions options;
  options.address.socket_path = socket_path_;
  {
    RedisConnection connection(options);
    // No answer comes: the server closes the connection as it ends.
    connection.Command({"SHUTDOWN"}).status().IgnoreError();
  }
  const int64_t until_ms = env_->MonotonicMs() + absl::ToInt64Milliseconds(kStopGrace);
  while (kill(adopted_pid_, 0) == 0 && env_->MonotonicMs() < until_ms) absl::SleepFor(absl::Milliseconds(kPollMs));
}

}  // namespace storyfarm::coordinator
