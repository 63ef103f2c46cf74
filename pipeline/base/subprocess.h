// A child process: started with chosen descriptors, in a process group of its own, waited for with a deadline.
#ifndef STORYFARM_PIPELINE_BASE_SUBPROCESS_H_
#define STORYFARM_PIPELINE_BASE_SUBPROCESS_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace storyfarm::base {

struct SubprocessOptions {
  std::string program;                                           // a path, or a name to be found in PATH
  std::vector<std::string> arguments;                            // without the program's own name
  std::vector<std::pair<std::string, std::string>> environment;  // added to this process's, or replacing
  // (descriptor here, number in the child). 0 is /dev/null unless named; 1 and 2 are this process's unless named.
  // Everything else is closed in the child.
  std::vector<std::pair<int, int>> descriptors;
  std::string output_file;  // where not empty, 1 and 2 are appended to this file
  std::string folder;       // working folder; empty: this process's
  // The kernel kills the child when this process dies (Linux; elsewhere a child must notice that its socket closed).
  bool die_with_parent = true;
};

struct ExitStatus {
  int code = 0;    // of exit(), where signal is 0
  int signal = 0;  // that killed it
  bool ok() const { return code == 0 && signal == 0; }
  std::string ToString() const;  // "exited with code 3", "killed by signal 9 (Killed)"
};

// Thread-safe.
class Subprocess {
 public:
  // NOT_FOUND where the program does not exist, PERMISSION_DENIED where it can't be run: known when this returns, and
  // no child is left.
  static absl::StatusOr<std::unique_ptr<Subprocess>> Start(const SubprocessOptions& options);
  // Kills the process group with SIGKILL, where it still runs, and waits for it.
  ~Subprocess();

  int pid() const;
  // Sends the signal to the child's whole process group. Nothing happens after the child was seen to end.
  void Signal(int signal_number);
  // How it ended; nullopt while it runs.
  std::optional<ExitStatus> Status() const;
  // Waits until it ends or the time is over.
  std::optional<ExitStatus> Wait(absl::Duration at_most) const;
  // SIGTERM, up to `grace` to end, then SIGKILL. How it ended.
  ExitStatus Stop(absl::Duration grace);
  // The child outlives this object, and this process where die_with_parent is false.
  static void Detach(std::unique_ptr<Subprocess> child);

 private:
  struct Shared;
  explicit Subprocess(std::shared_ptr<Shared> shared);
  std::shared_ptr<Shared> shared_;
};

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_SUBPROCESS_H_
