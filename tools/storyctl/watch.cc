#include "absl/strings/str_cat.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"
#include "tools/storyctl/progress.h"

namespace storyfarm::storyctl {
namespace {

// A coordinator that is restarted, on a slow disk, is back by then.
constexpr int kPatienceSeconds = 120;

// What a line for a log is printed for: everything that a person would call news.
std::string NewsOf(const farm::v1::JobStatus& status) {
  return absl::StrCat(status.state(), "/", status.frames_done(), "/", status.frames_failed(), "/",
                      status.identities_done(), "/", status.pages_done(), "/", status.waiting_size());
}

class Display {
 public:
  Display(const Context& context) : context_(context), lines_(context.console) {}

  void Show(const farm::v1::JobStatus& status) {
    away_ = false;
    const std::string news = NewsOf(status);
    const bool changed = news != last_news_;
    last_news_ = news;
    if (context_.json) {
      if (changed) context_.console.out() << Print(ToJson(status), true) << std::endl;
      return;
    }
    if (context_.console.live()) {
      lines_.Show(ProgressLines(status, context_.console.columns()));
      return;
    }
    if (!changed) return;
    context_.console.Note(absl::StrCat(status.job_id(), " ", Summary(status)));
    for (const std::string& line : WaitingLines(status)) context_.console.Note(absl::StrCat("  ", line));
  }

  void Away(const std::string& message) {
    if (away_) return;
    away_ = true;
    lines_.Clear();
    context_.console.Note(message);
  }

 private:
  const Context& context_;
  LiveLines lines_;
  std::string last_news_;
  bool away_ = false;
};

}  // namespace

ExitCode ExitCodeOfJob(int job_state) { return job_state == farm::v1::JOB_DONE ? ExitCode::kOk : ExitCode::kFailed; }

Outcome Watch(const Context& context, const WatchOptions& options) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  Display display(context);
  farm::v1::JobStatus last;
  bool any = false;
  const absl::Status watched = farm.Watch(
      options.job, /*patience_s=*/kPatienceSeconds,
      [&](const farm::v1::JobStatus& status) {
        last = status;
        any = true;
        display.Show(status);
        return true;
      },
      [&](const std::string& message) { display.Away(message); });
  if (!watched.ok()) return watched;
  if (!any) return absl::InternalError("the coordinator ended the watch without a status");
  return ExitCodeOfJob(last.state());
}

}  // namespace storyfarm::storyctl
