// The coordinator under load: a real process with its private Redis, in a folder that goes with it.
#ifndef STORYFARM_TOOLS_BENCH_FARM_LOAD_FARM_PROCESS_H_
#define STORYFARM_TOOLS_BENCH_FARM_LOAD_FARM_PROCESS_H_

#include <grpcpp/channel.h>
#include <grpcpp/support/channel_arguments.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "pipeline/base/subprocess.h"

namespace storyfarm::bench {

// Of a process, as the kernel counts it.
struct Usage {
  uint64_t resident_bytes = 0;
  double cpu_seconds = 0;
};

class FarmProcess {
 public:
  // Returns when it serves. Its program stands beside this one.
  static absl::StatusOr<std::unique_ptr<FarmProcess>> Start();
  // Stops it, and removes everything.
  ~FarmProcess();

  std::string target() const;
  // A channel with a connection of its own.
  std::shared_ptr<grpc::Channel> Connect() const { return Open({}); }
  // The same with what a worker's control stream asks for (worker/agent/control_link.cc).
  std::shared_ptr<grpc::Channel> ConnectAsWorker() const;
  bool Runs() const { return !coordinator_->Status().has_value(); }
  Usage Coordinator() const;
  Usage Redis() const;
  std::string LogEnd() const;
  const std::string& folder() const { return folder_; }

 private:
  explicit FarmProcess(std::string folder) : folder_(std::move(folder)) {}
  std::shared_ptr<grpc::Channel> Open(grpc::ChannelArguments arguments) const;

  const std::string folder_;
  std::unique_ptr<base::Subprocess> coordinator_;
  int redis_pid_ = 0;
};

// Of the process that this is.
Usage OwnUsage();

}  // namespace storyfarm::bench

#endif  // STORYFARM_TOOLS_BENCH_FARM_LOAD_FARM_PROCESS_H_
