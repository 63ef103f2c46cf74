#include "coordinator/store/redis_connection.h"

#include <hiredis/hiredis.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace storyfarm::coordinator {
namespace {

// hiredis writes to its socket with write(): a server that is gone raises SIGPIPE. It is blocked here for the calling
// thread, and taken back if it came, so that the rest of the process keeps its own handling of it.
class WithoutSigpipe {
 public:
  WithoutSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~WithoutSigpipe() {
    sigset_t pending;
    sigpending(&pending);
    if (!was_pending_ && sigismember(&pending, SIGPIPE) == 1) {
      int signal_number = 0;
      sigwait(&pipe_, &signal_number);
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_;
  sigset_t before_;
  bool was_pending_ = false;
};

timeval Milliseconds(int64_t ms) {
  timeval time{};
  time.tv_sec = static_cast<time_t>(ms / 1000);
  time.tv_usec = static_cast<suseconds_t>(ms % 1000 * 1000);
  return time;
}

RedisReply Own(const redisReply& reply) {
  RedisReply own;
  switch (reply.type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
      own.kind = RedisReply::Kind::kText;
      own.text.assign(reply.str, reply.len);
      break;
    case REDIS_REPLY_ERROR:
      own.kind = RedisReply::Kind::kError;
      own.text.assign(reply.str, reply.len);
      break;
    case REDIS_REPLY_INTEGER:
      own.kind = RedisReply::Kind::kNumber;
      own.number = reply.integer;
      break;
    case REDIS_REPLY_ARRAY:
      own.kind = RedisReply::Kind::kList;
      own.list.reserve(reply.elements);
      for (size_t i = 0; i < reply.elements; ++i) own.list.push_back(Own(*reply.element[i]));
      break;
    default:
      break;
  }
  return own;
}

}  // namespace

std::string RedisAddress::ToString() const {
  if (!socket_path.empty()) return absl::StrCat("unix://", socket_path);
  return absl::StrCat("redis://", host, ":", port, database == 0 ? "" : absl::StrCat("/", database));
}

absl::StatusOr<RedisAddress> ParseRedisAddress(const std::string& url) {
  RedisAddress address;
  absl::string_view rest(url);
  if (absl::ConsumePrefix(&rest, "unix://")) {
    if (rest.empty() || rest[0] != '/') {
      return absl::InvalidArgumentError(absl::StrCat(url, ": write unix:///path/to/redis.sock"));
    }
    address.socket_path = std::string(rest);
    return address;
  }
  if (!absl::ConsumePrefix(&rest, "redis://")) {
    if (absl::StartsWith(rest, "rediss://")) {
      return absl::InvalidArgumentError(
          absl::StrCat(url, ": TLS is not spoken here; put a tunnel (stunnel, ssh -L) before the server"));
    }
    return absl::InvalidArgumentError(
        absl::StrCat(url, ": write redis://host:port/database or unix:///path/to/redis.sock"));
  }
  if (const size_t at = rest.rfind('@'); at != absl::string_view::npos) {
    const absl::string_view user = rest.substr(0, at);
    if (user.find(':') != absl::string_view::npos) {
      return absl::InvalidArgumentError("a Redis address must not hold a password: put it into a file of its own");
    }
    address.user = std::string(user);
    rest.remove_prefix(at + 1);
  }
  if (const size_t slash = rest.find('/'); slash != absl::string_view::npos) {
    const absl::string_view database = rest.substr(slash + 1);
    if (!database.empty() && (!absl::SimpleAtoi(database, &address.database) || address.database < 0)) {
      return absl::InvalidArgumentError(absl::StrCat(url, ": the database after the slash must be a number"));
    }
    rest = rest.substr(0, slash);
  }
  const size_t bracket = rest.rfind(']');
  const size_t colon = rest.rfind(':');
  if (colon != absl::string_view::npos && (bracket == absl::string_view::npos || colon > bracket)) {
    if (!absl::SimpleAtoi(rest.substr(colon + 1), &address.port) || address.port < 1 || address.port > 65535) {
      return absl::InvalidArgumentError(absl::StrCat(url, ": the port must be a number from 1 to 65535"));
    }
    rest = rest.substr(0, colon);
  }
  if (bracket != absl::string_view::npos && !rest.empty() && rest[0] == '[') rest = rest.substr(1, bracket - 1);
  if (rest.empty()) return absl::InvalidArgumentError(absl::StrCat(url, ": the host is missing"));
  address.host = std::string(rest);
  return address;
}

void RedisConnection::Free::operator()(redisContext* context) const { redisFree(context); }

RedisConnection::RedisConnection(RedisOptions options) : options_(std::move(options)) {}
RedisConnection::~RedisConnection() = default;

absl::Status RedisConnection::Connect() {
  if (options_.before_connect) {
    if (absl::Status status = options_.before_connect(); !status.ok()) {
      return absl::IsDeadlineExceeded(status) ? absl::UnavailableError(status.message()) : status;
    }
  }
  const RedisAddress& address = options_.address;
  const timeval connect_time = Milliseconds(options_.connect_ms);
  context_.reset(address.socket_path.empty() ? redisConnectWithTimeout(address.host.c_str(), address.port, connect_time)
                                             : redisConnectUnixWithTimeout(address.socket_path.c_str(), connect_time));
  if (context_ == nullptr || context_->err != 0) {
    const std::string why = context_ == nullptr ? "no memory" : context_->errstr;
    context_.reset();
    return absl::UnavailableError(
        absl::StrCat("can't reach Redis at ", address.ToString(), ": ", why, ". Is it running?"));
  }
#ifdef SO_NOSIGPIPE
  const int on = 1;
  setsockopt(context_->fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
#endif
  // A connect forgets the time-outs of the connection before.
  if (redisSetTimeout(context_.get(), Milliseconds(options_.command_ms)) != REDIS_OK) {
    context_.reset();
    return absl::UnavailableError(absl::StrCat("can't set time-outs on the connection to ", address.ToString()));
  }
  if (!options_.password_file.empty()) {
    std::ifstream file(options_.password_file, std::ios::binary);
    std::string password{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    while (!password.empty() && (password.back() == '\n' || password.back() == '\r')) password.pop_back();
    if (password.empty()) {
      context_.reset();
      return absl::PermissionDeniedError(
          absl::StrCat("the Redis password file ", options_.password_file, " can't be read or is empty"));
    }
    std::vector<std::string> words = {"AUTH"};
    if (!address.user.empty()) words.push_back(address.user);
    words.push_back(password);
    const absl::StatusOr<RedisReply> reply = Send(words);
    if (!reply.ok() || reply->kind == RedisReply::Kind::kError) {
      context_.reset();
      if (!reply.ok()) return absl::UnavailableError(reply.status().message());
      return absl::PermissionDeniedError(absl::StrCat("Redis at ", address.ToString(), " refused the password from ",
                                                      options_.password_file, ": ", reply->text));
    }
  }
  if (address.database != 0) {
    const absl::StatusOr<RedisReply> reply = Send({"SELECT", absl::StrCat(address.database)});
    if (!reply.ok() || reply->kind == RedisReply::Kind::kError) {
      context_.reset();
      return absl::UnavailableError(absl::StrCat("Redis at ", address.ToString(), " has no such database: ",
                                                 reply.ok() ? reply->text : std::string(reply.status().message())));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<RedisReply> RedisConnection::Send(const std::vector<std::string>& words) {
  std::vector<const char*> starts;
  std::vector<size_t> sizes;
  for (const std::string& word : words) {
    starts.push_back(word.data());
    sizes.push_back(word.size());
  }
  WithoutSigpipe guard;
  auto* reply = static_cast<redisReply*>(
      redisCommandArgv(context_.get(), static_cast<int>(words.size()), starts.data(), sizes.data()));
  if (reply == nullptr) {
    // After a time-out the connection may still bring the old answer: it must not be used again.
    const std::string why = context_->errstr;
    context_.reset();
    return absl::DeadlineExceededError(
        absl::StrCat("Redis at ", options_.address.ToString(), " did not answer: ", why));
  }
  RedisReply own = Own(*reply);
  freeReplyObject(reply);
  return own;
}

absl::StatusOr<RedisReply> RedisConnection::Command(const std::vector<std::string>& words) {
  if (context_ == nullptr) {
    if (absl::Status status = Connect(); !status.ok()) return status;
  }
  absl::StatusOr<RedisReply> reply = Send(words);
  if (reply.ok() && reply->kind == RedisReply::Kind::kError && absl::StartsWith(reply->text, "NOAUTH")) {
    context_.reset();
    return absl::PermissionDeniedError(
        absl::StrCat("Redis at ", options_.address.ToString(), " wants a password: name a file that holds it"));
  }
  return reply;
}

}  // namespace storyfarm::coordinator
