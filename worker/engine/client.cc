#include "worker/engine/client.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "pipeline/base/env.h"
#include "pipeline/base/framing.h"
#include "pipeline/base/program_folder.h"
#include "pipeline/base/subprocess.h"
#include "pipeline/base/unique_fd.h"

namespace storyfarm::engine {
namespace {

constexpr int kEngineFd = 3;  // the socket's number in the child, told by --fd
// An engine whose socket closed but that still runs is broken: it gets this long to end before it is killed.
constexpr int64_t kEndingGraceMs = 5'000;
constexpr size_t kMaxLastLineBytes = 500;  // of stderr, for a message

// How many processes the kernel has killed for want of memory, on this whole machine; 0 where it does not say.
uint64_t OomKills() {
  std::ifstream counters("/proc/vmstat");
  std::string name;
  uint64_t value = 0;
  while (counters >> name >> value) {
    if (name == "oom_kill") return value;
  }
  return 0;
}

// Passes an engine's stderr on to this process's, and keeps its last line for the message about its end.
class ErrorOutput {
 public:
  // The descriptor that the child writes to.
  absl::StatusOr<base::UniqueFd> Open() {
    int ends[2];
    if (pipe(ends) != 0) return base::ErrorFromErrno(errno, "open", "a pipe");
    read_end_ = base::UniqueFd(ends[0]);
    base::UniqueFd write_end(ends[1]);
    for (const int end : ends) fcntl(end, F_SETFD, FD_CLOEXEC);
    return write_end;
  }
  void Start() {
    thread_ = std::thread([this] { Run(); });
  }
  // Once the child has ended.
  void Join() {
    if (thread_.joinable()) thread_.join();
  }
  std::string LastLine() {
    const std::lock_guard lock(mutex_);
    return last_line_;
  }

 private:
  void Run() {
    std::string line;
    char buffer[4096];
    while (true) {
      const ssize_t size = read(read_end_.get(), buffer, sizeof(buffer));
      if (size < 0 && errno == EINTR) continue;
      if (size <= 0) return;
      for (ssize_t done = 0; done < size;) {
        const ssize_t wrote = write(STDERR_FILENO, buffer + done, static_cast<size_t>(size - done));
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) break;  // nobody reads this process's stderr: the engine's goes nowhere either
        done += wrote;
      }
      for (ssize_t i = 0; i < size; ++i) {
        if (buffer[i] == '\n' && !line.empty()) {
          const std::lock_guard lock(mutex_);
          last_line_ = std::exchange(line, "");
        } else if (buffer[i] != '\n' && line.size() < kMaxLastLineBytes) {
          line.push_back(buffer[i]);
        }
      }
    }
  }

  base::UniqueFd read_end_;
  std::thread thread_;
  std::mutex mutex_;
  std::string last_line_;
};

}  // namespace

absl::StatusOr<std::string> FindEngineProgram() {
  if (const char* named = getenv("STORYFARM_ENGINE"); named != nullptr && *named != '\0') {
    if (access(named, X_OK) == 0) return std::string(named);
    return absl::NotFoundError(absl::StrCat("STORYFARM_ENGINE names ", named, ", which is no program"));
  }
  if (std::string beside = base::ProgramBeside("storyfarm-engine"); !beside.empty()) return beside;
  return absl::NotFoundError(absl::StrCat("no storyfarm-engine in ", base::ProgramFolder(),
                                          ": build it with libtorch, or name it in STORYFARM_ENGINE"));
}

struct EngineProcess::State {
  base::UniqueFd socket;
  std::unique_ptr<base::Subprocess> child;
  ErrorOutput errors;
  std::string device;
  uint64_t oom_kills_before = 0;
  std::mutex sending;
  std::atomic<bool> stopped{false};  // by this side

  base::ExitStatus WaitOrKill(int64_t grace_ms) {
    const std::optional<base::ExitStatus> ended = child->Wait(absl::Milliseconds(grace_ms));
    if (ended) return *ended;
    child->Signal(SIGKILL);
    return *child->Wait(absl::InfiniteDuration());
  }
};

EngineProcess::EngineProcess(std::unique_ptr<State> state) : state_(std::move(state)) {}

EngineProcess::~EngineProcess() {
  Kill();
  state_->errors.Join();
}

absl::StatusOr<std::unique_ptr<EngineProcess>> EngineProcess::Start(const EngineOptions& options) {
  absl::StatusOr<base::SocketPair> sockets = base::MakeSocketPair();
  if (!sockets.ok()) return sockets.status();
  auto state = std::make_unique<State>();
  absl::StatusOr<base::UniqueFd> errors = state->errors.Open();
  if (!errors.ok()) return errors.status();

  base::SubprocessOptions child;
  child.program = options.program;
  child.arguments = {"--fd", std::to_string(kEngineFd), "--device", options.device};
  if (options.threads > 0) {
    child.arguments.push_back("--threads");
    child.arguments.push_back(std::to_string(options.threads));
  }
  if (options.memory_limit_bytes > 0) {
    child.arguments.push_back("--memory-limit-bytes");
    child.arguments.push_back(std::to_string(options.memory_limit_bytes));
  }
  // What the user sets stands.
  for (const auto& [name, value] : {
           // Threads of OpenMP that spin at barriers for long take the cores from each other where engines share a
           // machine: the demo model on two busy cores rendered 5 times slower. Those that sleep at once are woken up
           // for each of its short operators: 1.8 times slower on idle cores. So some 40 us, in libgomp's spins.
           std::pair{"OMP_WAIT_POLICY", "PASSIVE"},
           std::pair{"GOMP_SPINCOUNT", "4000"},
           // glibc gives blocks back to the system at once from a size on that it raises to what was freed last, and
           // keeps the smaller ones that lie between others: a 384 x 384 picture of the demo model took 511 MB where
           // 333 MB were in use, and no prediction held. Tensors are used again as device/block_cache.h says, and huge
           // pages make up for some of what fresh ones cost.
           std::pair{"MALLOC_MMAP_THRESHOLD_", "131072"},
           std::pair{"THP_MEM_ALLOC_ENABLE", "1"},
       }) {
    if (getenv(name) == nullptr) child.environment.emplace_back(name, value);
  }
  child.environment.insert(child.environment.end(), options.environment.begin(), options.environment.end());
  child.descriptors = {{sockets->child.get(), kEngineFd}, {errors->get(), STDERR_FILENO}};
  state->oom_kills_before = OomKills();
  absl::StatusOr<std::unique_ptr<base::Subprocess>> started = base::Subprocess::Start(child);
  if (!started.ok()) return started.status();
  state->child = *std::move(started);
  state->socket = std::move(sockets->parent);
  state->device = options.device;
  state->errors.Start();
  return std::unique_ptr<EngineProcess>(new EngineProcess(std::move(state)));
}

absl::Status EngineProcess::Send(const farm::v1::EngineRequest& request) {
  const std::lock_guard lock(state_->sending);
  return base::WriteFrame(state_->socket.get(), request.SerializeAsString());
}

absl::StatusOr<farm::v1::EngineEvent> EngineProcess::NextEvent(int64_t timeout_ms) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(std::max<int64_t>(timeout_ms, 0));
  while (true) {
    const int64_t left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd waiting{state_->socket.get(), POLLIN, 0};
    const int wait_ms = timeout_ms < 0 ? -1 : static_cast<int>(std::clamp<int64_t>(left, 0, INT_MAX));
    const int ready = poll(&waiting, 1, wait_ms);
    if (ready > 0) break;
    if (ready < 0 && errno != EINTR) return base::ErrorFromErrno(errno, "wait for", "the engine");
    if (ready == 0 && timeout_ms >= 0 && Clock::now() >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat("no event from the engine within ", timeout_ms, " ms"));
    }
  }
  const absl::StatusOr<std::optional<std::string>> frame = base::ReadFrame(state_->socket.get());
  if (!frame.ok() || !frame->has_value()) return absl::UnavailableError("the engine has gone");
  farm::v1::EngineEvent event;
  if (!event.ParseFromString(**frame)) {
    // Nothing that follows can be trusted, and nothing is known of what it did.
    Kill();
    return absl::UnavailableError("the engine sent something that is no event");
  }
  return event;
}

int EngineProcess::event_fd() const { return state_->socket.get(); }
pid_t EngineProcess::pid() const { return state_->child->pid(); }

void EngineProcess::Stop(int64_t grace_ms) {
  if (state_->child->Status()) return;
  state_->stopped = true;
  shutdown(state_->socket.get(), SHUT_RDWR);
  state_->WaitOrKill(grace_ms);
}

void EngineProcess::Kill() {
  if (state_->child->Status()) return;
  state_->stopped = true;
  state_->child->Signal(SIGKILL);
  state_->child->Wait(absl::InfiniteDuration());
}

farm::v1::Failure EngineProcess::Ending() {
  const base::ExitStatus status = state_->WaitOrKill(kEndingGraceMs);
  state_->errors.Join();
  farm::v1::Failure failure;
  failure.set_kind(farm::v1::ENGINE_ABORTED);
  const std::string last_line = state_->errors.LastLine();
  const std::string said = last_line.empty() ? "" : absl::StrCat("; its last words: ", last_line);
  const std::string engine = absl::StrCat("the engine on ", state_->device);
  if (state_->stopped) {
    failure.set_message(absl::StrCat(engine, " was stopped and ", status.ToString(), said));
  } else if (status.signal == SIGKILL && OomKills() > state_->oom_kills_before) {
    failure.set_kind(farm::v1::OUT_OF_MEMORY);
    failure.set_message(absl::StrCat(engine, " was killed by the system, which had run out of memory", said));
  } else {
    failure.set_message(absl::StrCat(engine, " ", status.ToString(), said));
  }
  return failure;
}

}  // namespace storyfarm::engine
