#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/env.h"
#include "pipeline/base/subprocess.h"
#include "pipeline/base/unique_fd.h"
#include "worker/agent/wakefulness.h"

namespace storyfarm::worker {
namespace {

constexpr absl::Duration kEndsWithin = absl::Seconds(2);
constexpr absl::Duration kAnswersWithin = absl::Seconds(3);

class Linux final : public Wakefulness {
 public:
  explicit Linux(std::string inhibit) : inhibit_(std::move(inhibit)) {}
  ~Linux() override { LetGo(); }

  // The lock lasts as long as `cat` does, which reads a pipe that nobody writes to: it ends when this end closes, also
  // where this process is killed.
  absl::Status Hold() override {
    if (refused_) return Refused();
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return base::ErrorFromErrno(errno, "open", "a pipe");
    const base::UniqueFd from(ends[0]);
    pipe_ = base::UniqueFd(ends[1]);
    auto started = Inhibit("cat", from.get());
    if (!started.ok()) {
      pipe_ = base::UniqueFd();
      return started.status();
    }
    child_ = *std::move(started);
    return absl::OkStatus();
  }

  absl::Status Try() override {
    const base::UniqueFd nothing(open("/dev/null", O_RDONLY | O_CLOEXEC));
    const auto started = Inhibit("true", nothing.get());
    if (!started.ok()) return started.status();
    const auto ended = (*started)->Wait(kAnswersWithin);
    return ended.has_value() && ended->ok() ? absl::OkStatus() : Refused();
  }

  void LetGo() override {
    if (child_ == nullptr) return;
    refused_ = child_->Status().has_value();  // by itself, while the pipe was open
    pipe_ = base::UniqueFd();
    child_->Stop(kEndsWithin);
    child_ = nullptr;
  }

 private:
  absl::StatusOr<std::unique_ptr<base::Subprocess>> Inhibit(const std::string& program, int input) const {
    const base::UniqueFd nowhere(open("/dev/null", O_WRONLY | O_CLOEXEC));
    base::SubprocessOptions options;
    options.program = inhibit_;
    options.arguments = {"--what=idle", "--who=storyfarm", "--why=it renders for the farm", "--mode=block", program};
    options.descriptors = {{input, 0}, {nowhere.get(), 1}, {nowhere.get(), 2}};
    auto started = base::Subprocess::Start(options);
    if (started.ok()) return started;
    return absl::Status(started.status().code(),
                        absl::StrCat("logind can't be asked to keep it awake: ", started.status().message()));
  }
  absl::Status Refused() const {
    return absl::UnavailableError(absl::StrCat(inhibit_, " could not hold a lock: is there a logind?"));
  }

  const std::string inhibit_;
  base::UniqueFd pipe_;
  std::unique_ptr<base::Subprocess> child_;
  bool refused_ = false;
};

}  // namespace

std::unique_ptr<Wakefulness> LinuxWakefulness(std::string inhibit) {
  return std::make_unique<Linux>(std::move(inhibit));
}

std::unique_ptr<Wakefulness> Wakefulness::OfSystem() { return LinuxWakefulness("systemd-inhibit"); }

}  // namespace storyfarm::worker
