#include "pipeline/base/subprocess.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pipeline/base/env.h"
#include "pipeline/base/unique_fd.h"

extern char** environ;

namespace storyfarm::base {
namespace {

// Where the kernel can't close a range, descriptors up to here are closed one by one.
constexpr int kMaxDescriptorToClose = 4096;

// Longer ones could overflow the clock's arithmetic.
constexpr absl::Duration kMaxWait = absl::Hours(24 * 365);

// Everything the child needs, laid out before fork: between fork and exec only async-signal-safe calls are allowed,
// because another thread may have held any lock.
struct ChildPlan {
  std::string program;
  std::vector<char*> arguments;
  std::vector<char*> environment;
  std::vector<std::pair<int, int>> descriptors;  // from numbers above every target, to targets
  int highest_target = 2;
  int error_pipe = -1;
  const char* folder = nullptr;
  pid_t parent = 0;
  bool die_with_parent = false;
};

void CloseFrom(int first, int keep) {
  for (int fd = first; fd < kMaxDescriptorToClose; ++fd) {
    if (fd != keep) ::close(fd);
  }
}

void CloseRange(int first, int keep) {
#if defined(SYS_close_range)
  const unsigned keep_fd = static_cast<unsigned>(keep);
  const bool below = keep <= first || ::syscall(SYS_close_range, static_cast<unsigned>(first), keep_fd - 1, 0u) == 0;
  if (below && ::syscall(SYS_close_range, std::max(static_cast<unsigned>(first), keep_fd + 1), ~0u, 0u) == 0) return;
#endif
  CloseFrom(first, keep);
}

// Runs in the child. Returns only where it fails, with errno set.
void BecomeProgram(const ChildPlan& plan) {
  ::setpgid(0, 0);
#if defined(__linux__)
  if (plan.die_with_parent) {
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return;
    if (::getppid() != plan.parent) ::_exit(1);  // the parent died before the line above
  }
#endif
  for (const auto& [from, to] : plan.descriptors) {
    if (::dup2(from, to) < 0) return;  // dup2 clears close-on-exec
  }
  CloseRange(plan.highest_target + 1, plan.error_pipe);
  // Signals that this process ignores or blocks are not the child's business.
  for (int number = 1; number < NSIG; ++number) {
    if (number != SIGKILL && number != SIGSTOP) ::signal(number, SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);  // a macro on macOS, which a leading :: would break
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (plan.folder != nullptr && ::chdir(plan.folder) != 0) return;
  ::execve(plan.program.c_str(), plan.arguments.data(), plan.environment.data());
}

bool IsExecutableFile(const std::string& path) { return ::access(path.c_str(), X_OK) == 0; }

absl::StatusOr<std::string> FindProgram(const std::string& program) {
  if (program.empty()) return absl::InvalidArgumentError("There is no program to start: its name is empty.");
  if (program.find('/') != std::string::npos) return program;
  const char* path = std::getenv("PATH");
  for (absl::string_view folder : absl::StrSplit(path == nullptr ? "/usr/bin:/bin" : path, ':')) {
    const std::string candidate = JoinPath(folder.empty() ? "." : std::string(folder), program);
    if (IsExecutableFile(candidate)) return candidate;
  }
  return absl::NotFoundError(
      absl::StrCat("The program ", program, " was not found in PATH. Install it, or name its path."));
}

std::vector<std::string> MergedEnvironment(const std::vector<std::pair<std::string, std::string>>& changes) {
  std::map<std::string, std::string> merged;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const char* equals = std::strchr(*entry, '=');
    if (equals != nullptr) merged[std::string(*entry, static_cast<size_t>(equals - *entry))] = equals + 1;
  }
  for (const auto& [name, value] : changes) merged[name] = value;
  std::vector<std::string> lines;
  lines.reserve(merged.size());
  for (const auto& [name, value] : merged) lines.push_back(absl::StrCat(name, "=", value));
  return lines;
}

ExitStatus FromWaitStatus(int status) {
  ExitStatus result;
  if (WIFSIGNALED(status)) {
    result.signal = WTERMSIG(status);
  } else {
    result.code = WEXITSTATUS(status);
  }
  return result;
}

// The error of exec that the child sent, or 0: the pipe closes where exec succeeds.
int ReadExecError(int fd) {
  int error = 0;
  ssize_t got = 0;
  do {
    got = ::read(fd, &error, sizeof error);
  } while (got < 0 && errno == EINTR);
  return got == sizeof error ? error : 0;
}

}  // namespace

std::string ExitStatus::ToString() const {
  if (signal == 0) return absl::StrCat("exited with code ", code);
  const char* name = ::strsignal(signal);
  return absl::StrCat("killed by signal ", signal, " (", name == nullptr ? "?" : name, ")");
}

// Shared with the thread that forks the child and waits for it. That thread lives exactly as long as the child: the
// kernel's parent-death signal fires when the *thread* that forked ends, and waiting needs no polling.
struct Subprocess::Shared {
  std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  bool started = false;  // fork was tried
  int fork_error = 0;
  pid_t pid = -1;
  std::optional<ExitStatus> ended;

  void ForkAndWait(const ChildPlan& plan) {
    const pid_t child = ::fork();
    if (child == 0) {
      BecomeProgram(plan);
      const int error = errno;
      // The parent learns of it from a pipe that closes where exec succeeds.
      const ssize_t written = ::write(plan.error_pipe, &error, sizeof error);
      ::_exit(written == sizeof error ? 127 : 126);
    }
    const int error = errno;
    {
      std::lock_guard<std::mutex> lock(mutex);
      started = true;
      changed.notify_all();
      if (child < 0) {
        fork_error = error;
        ended = ExitStatus{};
        return;
      }
      pid = child;
      ::setpgid(child, child);  // whichever of parent and child comes first: a signal to the group must find it
    }
    // WNOWAIT leaves the process id taken until the end is recorded, so that Signal never hits a stranger.
    siginfo_t info{};
    while (::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
    }
    std::lock_guard<std::mutex> lock(mutex);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    ended = FromWaitStatus(status);
    changed.notify_all();
  }

  // Forks on a thread that then waits for the child. 0, or the error where there is no child.
  static int Fork(const std::shared_ptr<Shared>& shared, const ChildPlan& plan) {
    // `plan` borrows from the caller; the thread needs it only until fork, which this call waits for.
    std::thread([shared, &plan] { shared->ForkAndWait(plan); }).detach();
    std::unique_lock<std::mutex> lock(shared->mutex);
    shared->changed.wait(lock, [&] { return shared->started; });
    return shared->fork_error;
  }
};

Subprocess::Subprocess(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

absl::StatusOr<std::unique_ptr<Subprocess>> Subprocess::Start(const SubprocessOptions& options) {
  absl::StatusOr<std::string> program = FindProgram(options.program);
  if (!program.ok()) return program.status();

  // What the child gets as 0, 1, 2 and so on.
  std::map<int, int> targets;
  UniqueFd null_input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null_input.valid()) return ErrorFromErrno(errno, "read", "/dev/null");
  targets[0] = null_input.get();
  targets[1] = 1;
  targets[2] = 2;
  UniqueFd output;
  if (!options.output_file.empty()) {
    output = UniqueFd(::open(options.output_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
    if (!output.valid()) return ErrorFromErrno(errno, "write", options.output_file);
    targets[1] = targets[2] = output.get();
  }
  for (const auto& [here, there] : options.descriptors) targets[there] = here;

  ChildPlan plan;
  plan.highest_target = targets.rbegin()->first;
  // Copies above every target, so that no dup2 in the child overwrites one that is still needed.
  std::vector<UniqueFd> copies;
  for (const auto& [there, here] : targets) {
    copies.emplace_back(::fcntl(here, F_DUPFD_CLOEXEC, plan.highest_target + 1));
    if (!copies.back().valid()) {
      if (errno == EBADF && (there == 1 || there == 2)) continue;  // this process has none to pass on
      return ErrorFromErrno(errno, "pass a descriptor to", *program);
    }
    plan.descriptors.emplace_back(copies.back().get(), there);
  }
  int pipe_fds[2];
  if (::pipe(pipe_fds) != 0) return ErrorFromErrno(errno, "start", *program);
  UniqueFd error_read(pipe_fds[0]);
  UniqueFd error_write_low(pipe_fds[1]);
  ::fcntl(error_read.get(), F_SETFD, FD_CLOEXEC);
  UniqueFd error_write(::fcntl(error_write_low.get(), F_DUPFD_CLOEXEC, plan.highest_target + 1));
  error_write_low.Reset();
  if (!error_write.valid()) return ErrorFromErrno(errno, "start", *program);

  std::vector<std::string> arguments = {options.program};
  arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
  std::vector<std::string> environment = MergedEnvironment(options.environment);
  for (std::string& argument : arguments) plan.arguments.push_back(argument.data());
  for (std::string& line : environment) plan.environment.push_back(line.data());
  plan.arguments.push_back(nullptr);
  plan.environment.push_back(nullptr);
  plan.program = *program;
  plan.error_pipe = error_write.get();
  plan.folder = options.folder.empty() ? nullptr : options.folder.c_str();
  plan.parent = ::getpid();
  plan.die_with_parent = options.die_with_parent;

  auto shared = std::make_shared<Shared>();
  if (const int error = Shared::Fork(shared, plan); error != 0) return ErrorFromErrno(error, "start", *program);
  error_write.Reset();
  const int exec_error = ReadExecError(error_read.get());
  std::unique_ptr<Subprocess> child(new Subprocess(std::move(shared)));
  if (exec_error != 0) {
    child->Wait(absl::InfiniteDuration());
    return ErrorFromErrno(exec_error, "start", *program);
  }
  return child;
}

Subprocess::~Subprocess() {
  if (shared_ == nullptr) return;
  Signal(SIGKILL);
  Wait(absl::InfiniteDuration());
}

int Subprocess::pid() const {
  std::lock_guard<std::mutex> lock(shared_->mutex);
  return shared_->pid;
}

void Subprocess::Signal(int signal_number) {
  std::lock_guard<std::mutex> lock(shared_->mutex);
  // The process is reaped under this lock, so its id is still its own.
  if (!shared_->ended.has_value()) ::kill(-shared_->pid, signal_number);
}

std::optional<ExitStatus> Subprocess::Status() const {
  std::lock_guard<std::mutex> lock(shared_->mutex);
  return shared_->ended;
}

std::optional<ExitStatus> Subprocess::Wait(absl::Duration at_most) const {
  std::unique_lock<std::mutex> lock(shared_->mutex);
  const auto ended = [&] { return shared_->ended.has_value(); };
  if (at_most == absl::InfiniteDuration()) {
    shared_->changed.wait(lock, ended);
  } else {
    shared_->changed.wait_for(lock, absl::ToChronoMicroseconds(std::min(at_most, kMaxWait)), ended);
  }
  return shared_->ended;
}

ExitStatus Subprocess::Stop(absl::Duration grace) {
  Signal(SIGTERM);
  if (std::optional<ExitStatus> ended = Wait(grace); ended.has_value()) return *ended;
  Signal(SIGKILL);
  return *Wait(absl::InfiniteDuration());
}

void Subprocess::Detach(std::unique_ptr<Subprocess> child) { child->shared_.reset(); }

}  // namespace storyfarm::base
