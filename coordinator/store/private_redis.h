// The Redis server that comes with the coordinator: no port, a socket that only this user can reach, every write
// fsynced. For whoever does not want to run one.
#ifndef STORYFARM_COORDINATOR_STORE_PRIVATE_REDIS_H_
#define STORYFARM_COORDINATOR_STORE_PRIVATE_REDIS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/store/redis_connection.h"
#include "pipeline/base/env.h"
#include "pipeline/base/subprocess.h"

namespace storyfarm::coordinator {

struct PrivateRedisOptions {
  std::string data_folder;  // locked by the caller (DataFolder); Redis gets "redis" in it
  std::string program = "redis-server";
  int64_t start_ms = 60000;  // a log of gigabytes takes a while to load
};

class PrivateRedis {
 public:
  // Adopts the server that still runs on this folder (its coordinator was killed), or starts one, and waits until it
  // answers. NOT_FOUND: redis-server is not installed. FAILED_PRECONDITION: too old, or it ended at once, with what it
  // wrote to redis/redis.log.
  static absl::StatusOr<std::unique_ptr<PrivateRedis>> Start(base::Env* env, const PrivateRedisOptions& options);

  // Stops the server, adopted or not, after it has written everything.
  ~PrivateRedis();

  // For RedisStore: the address, and a new server where the old one died.
  RedisOptions Options();

  // Starts a server again where none answers. Options() calls it before each connect.
  absl::Status EnsureRunning();

  const std::string& socket_path() const { return socket_path_; }
  int pid() const;  // 0: not known

 private:
  PrivateRedis(base::Env* env, PrivateRedisOptions options, std::string folder, std::string socket_path);
  absl::Status CheckProgram();
  absl::Status Launch();
  // OK: it answers. UNAVAILABLE: nobody listens. DEADLINE_EXCEEDED: it loads its log, or hangs.
  absl::Status Ping();
  absl::Status WaitUntilUp();

  base::Env* env_;
  PrivateRedisOptions options_;
  std::string folder_;
  std::string socket_path_;
  std::unique_ptr<base::Subprocess> child_;  // null: adopted
  int adopted_pid_ = 0;
  bool checked_ = false;  // the program
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_STORE_PRIVATE_REDIS_H_
