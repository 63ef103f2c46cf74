#include "tools/bench/farm_load/farm_process.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "tools/bench/farm_load/load.h"

namespace storyfarm::bench {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kStartMs = 30'000;

std::string Read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

Usage UsageOf(const std::string& process) {
  Usage usage;
  std::istringstream statm(Read("/proc/" + process + "/statm"));
  uint64_t pages = 0;
  statm >> pages >> usage.resident_bytes;
  usage.resident_bytes *= static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  // Fields 14 and 15, counted from the parenthesis that ends the name: the 12th and 13th.
  const std::string stat = Read("/proc/" + process + "/stat");
  std::istringstream fields(stat.substr(std::min(stat.size(), stat.rfind(')') + 1)));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  usage.cpu_seconds = (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
  return usage;
}

// Redis shows its socket as its title.
int FindRedis(const std::string& data_folder) {
  const std::string title = "unixsocket:" + data_folder + "/redis/redis.sock";
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (!std::all_of(name.begin(), name.end(), [](unsigned char c) { return isdigit(c) != 0; })) continue;
    if (Read(entry.path() / "cmdline").find(title) != std::string::npos) return std::stoi(name);
  }
  return 0;
}

std::string Program(const std::string& name) {
  std::error_code error;
  return (fs::read_symlink("/proc/self/exe", error).parent_path() / name).string();
}

}  // namespace

absl::StatusOr<std::unique_ptr<FarmProcess>> FarmProcess::Start() {
  char name[] = "/tmp/storyfarm-load-XXXXXX";  // a short path, for the sockets in it
  if (mkdtemp(name) == nullptr) return absl::InternalError("No temporary folder can be made in /tmp.");
  std::unique_ptr<FarmProcess> farm(new FarmProcess(name));
  base::SubprocessOptions options;
  options.program = Program("storyfarm-coordinator");
  options.arguments = {"--data", farm->folder_ + "/farm"};
  options.output_file = farm->folder_ + "/farm.log";
  auto started = base::Subprocess::Start(options);
  if (!started.ok()) return started.status();
  farm->coordinator_ = *std::move(started);
  const int64_t deadline_ms = NowMs() + kStartMs;
  while (farm->LogEnd().find("storyfarm-coordinator serves") == std::string::npos) {
    if (!farm->Runs() || NowMs() > deadline_ms) {
      return absl::InternalError(absl::StrCat("The coordinator did not start:\n", farm->LogEnd()));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  farm->redis_pid_ = FindRedis(farm->folder_ + "/farm");
  if (farm->redis_pid_ == 0) return absl::InternalError("The coordinator's private redis-server is not to be found.");
  return farm;
}

FarmProcess::~FarmProcess() {
  if (coordinator_ != nullptr) coordinator_->Stop(absl::Seconds(60));
  std::error_code error;
  fs::remove_all(folder_, error);
  if (error) fprintf(stderr, "%s stays behind: %s\n", folder_.c_str(), error.message().c_str());
}

std::string FarmProcess::target() const { return "unix:" + folder_ + "/farm/coordinator.sock"; }

std::shared_ptr<grpc::Channel> FarmProcess::ConnectAsWorker() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  return Open(std::move(arguments));
}

std::shared_ptr<grpc::Channel> FarmProcess::Open(grpc::ChannelArguments arguments) const {
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(32 << 20);
  return grpc::CreateCustomChannel(target(), grpc::InsecureChannelCredentials(), arguments);
}

Usage FarmProcess::Coordinator() const { return UsageOf(std::to_string(coordinator_->pid())); }
Usage FarmProcess::Redis() const { return UsageOf(std::to_string(redis_pid_)); }
Usage OwnUsage() { return UsageOf("self"); }

std::string FarmProcess::LogEnd() const {
  const std::string log = Read(folder_ + "/farm.log");
  return log.substr(log.size() > 4000 ? log.size() - 4000 : 0);
}

}  // namespace storyfarm::bench
