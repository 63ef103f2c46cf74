// queue: jobs with work left, by chapter.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/plan/names.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"
#include "tools/storyctl/progress.h"
#include "tools/storyctl/text_columns.h"

namespace storyfarm::storyctl {
namespace {

constexpr uint32_t kMostLiveJobs = 1000;  // a page's most, and the farm's

std::string Count(uint32_t done, uint32_t total, uint32_t failed) {
  std::string text = absl::StrCat(done, "/", total);
  if (failed > 0) absl::StrAppend(&text, " (", failed, " failed)");
  return text;
}

}  // namespace

Outcome Queue(const Context& context) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::ListJobsRequest request;
  request.set_live(true);
  request.set_page_size(kMostLiveJobs);
  const auto response = farm.Call(&farm::v1::ClientService::StubInterface::ListJobs, request);
  if (!response.ok()) return response.status();
  if (context.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const auto& job : response->jobs()) list.push_back(ToJson(job));
    context.console.out() << Print({{"jobs", list}}) << std::endl;
    return ExitCode::kOk;
  }
  if (response->jobs().empty()) {
    context.console.Note("no job has work left");
    return ExitCode::kOk;
  }
  std::vector<std::vector<std::string>> rows = {
      {"JOB", "STATE", "PRIORITY", "PANELS", "AT WORK", "SPEED", "LEFT", "TITLE"}};
  std::vector<std::string> waits;  // sentences, which would push the columns apart
  for (const auto& job : response->jobs()) {
    rows.push_back({job.job_id(), job.paused() ? "paused" : plan::StateName(job.state()), absl::StrCat(job.priority()),
                    Count(job.frames_done(), job.frames_total(), job.frames_failed()),
                    absl::StrCat(job.frames_running()),
                    job.frames_per_minute() > 0 ? absl::StrFormat("%.1f/min", job.frames_per_minute()) : "",
                    job.seconds_left() >= 0 ? FormatSeconds(job.seconds_left()) : "", Printable(job.title())});
    for (int i = 0; job.chapters_size() > 1 && i < job.chapters_size(); ++i) {
      const farm::v1::ChapterProgress& chapter = job.chapters(i);
      const std::string title = chapter.title().empty() ? absl::StrCat("Chapter ", i + 1) : Printable(chapter.title());
      rows.push_back({"", "", "", Count(chapter.frames_done(), chapter.frames_total(), chapter.frames_failed()), "", "",
                      "", "  " + title});
    }
    for (const std::string& line : WaitingLines(job)) waits.push_back(absl::StrCat(job.job_id(), " ", Printable(line)));
  }
  context.console.out() << Table(rows);
  for (const std::string& line : waits) context.console.out() << line << "\n";
  context.console.out() << std::flush;
  return ExitCode::kOk;
}

}  // namespace storyfarm::storyctl
