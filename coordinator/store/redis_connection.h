// One connection to a Redis server: made when needed, thrown away after any doubt, made again for the next command.
#ifndef STORYFARM_COORDINATOR_STORE_REDIS_CONNECTION_H_
#define STORYFARM_COORDINATOR_STORE_REDIS_CONNECTION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct redisContext;
struct redisReply;

namespace storyfarm::coordinator {

struct RedisAddress {
  std::string socket_path;  // either this
  std::string host;         // or these
  int port = 6379;
  std::string user;  // empty: the default user
  int database = 0;

  std::string ToString() const;  // for people
};

// "redis://[user@]host[:port][/database]" or "unix:///path/to.sock". INVALID_ARGUMENT says what is wrong; a password in
// the address is refused, as addresses end up in logs and process lists.
absl::StatusOr<RedisAddress> ParseRedisAddress(const std::string& url);

struct RedisOptions {
  RedisAddress address;
  std::string password_file;   // read at each connect, its last line break is cut; empty: no password
  int64_t connect_ms = 2000;   // a server on this network answers in a millisecond
  int64_t command_ms = 10000;  // an fsync on a busy disk takes seconds; more than this is an outage
  // Runs before each connect: PrivateRedis starts a server that died. Not OK: the command fails with it.
  std::function<absl::Status()> before_connect;
};

// A reply, owned.
class RedisReply {
 public:
  enum class Kind { kNil, kText, kNumber, kList, kError };
  Kind kind = Kind::kNil;
  std::string text;  // kText, kError
  int64_t number = 0;
  std::vector<RedisReply> list;
};

// Not thread-safe.
class RedisConnection {
 public:
  explicit RedisConnection(RedisOptions options);
  ~RedisConnection();
  RedisConnection(const RedisConnection&) = delete;
  RedisConnection& operator=(const RedisConnection&) = delete;

  // Sends one command and waits. UNAVAILABLE: it was certainly not carried out (there was no connection).
  // DEADLINE_EXCEEDED: nobody knows whether it was. PERMISSION_DENIED: the password is wrong or missing. An error that
  // the server answers is a reply of kind kError.
  absl::StatusOr<RedisReply> Command(const std::vector<std::string>& words);

  const RedisOptions& options() const { return options_; }

 private:
  struct Free {
    void operator()(redisContext* context) const;
  };

  absl::Status Connect();
  absl::StatusOr<RedisReply> Send(const std::vector<std::string>& words);

  RedisOptions options_;
  std::unique_ptr<redisContext, Free> context_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_STORE_REDIS_CONNECTION_H_
