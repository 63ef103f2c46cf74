// jobs, status, cancel and nodes: one call each, and its answer as a table.
#include <ctime>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/base/membership.h"
#include "pipeline/plan/limits.h"
#include "pipeline/plan/names.h"
#include "pipeline/plan/pack.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"
#include "tools/storyctl/progress.h"

namespace storyfarm::storyctl {
namespace {

using Client = farm::v1::ClientService::StubInterface;

constexpr uint32_t kPageSize = 1000;  // the service's most

std::string LocalTime(uint64_t unix_ms) {
  const std::time_t seconds = static_cast<std::time_t>(unix_ms / 1000);
  std::tm local{};
  if (localtime_r(&seconds, &local) == nullptr) return "";
  char text[32];
  return std::string(text, std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &local));
}

std::string Progress(const farm::v1::JobStatus& job) {
  std::string text = absl::StrCat(job.frames_done(), "/", job.frames_total());
  if (job.frames_failed() > 0) absl::StrAppend(&text, " (", job.frames_failed(), " failed)");
  return text;
}

std::string PackHit(const farm::v1::PackUse& pack) {
  return absl::StrCat("pack hit: ", pack.name().empty() ? plan::ShortKey(pack.key()) : pack.name(), ", made by ",
                      pack.job_id(), absl::StrFormat(" in %.1f s", static_cast<double>(pack.saved_ms()) / 1000));
}

void PrintTasks(const Context& context, const farm::v1::JobStatus& job) {
  std::vector<std::vector<std::string>> rows = {{"TASK", "STATE", "NODE", "STEP", "TRIES", "MESSAGE"}};
  for (const farm::v1::TaskStatus& task : job.tasks()) {
    const std::string step = task.steps() > 0 ? absl::StrCat(task.step(), "/", task.steps()) : "";
    const std::string message = task.has_pack() ? PackHit(task.pack()) : task.message();
    rows.push_back({plan::TaskName(task.task()), plan::StateName(task.state()), task.node(), step,
                    absl::StrCat(task.attempts()), message});
  }
  context.console.out() << Table(rows);
}

}  // namespace

absl::StatusOr<FarmAddress> FarmTarget(const Context& context) {
  FarmAddress address;
  address.env = &context.env;
  if (const auto data = base::DefaultDataFolder(context.variables, "storyctl"); data.ok()) {
    address.trust_folder = base::TrustFolder(*data);
  }
  address.target = context.farm.empty() ? context.variables("STORYFARM_FARM") : context.farm;
  if (address.target.empty() && !address.trust_folder.empty()) {
    address.target = base::JoinedFarm(context.env, address.trust_folder);
  }
  if (address.target.empty()) {
    const absl::StatusOr<std::string> own = base::DefaultCoordinatorTarget(context.variables);
    if (!own.ok()) return own.status();
    address.target = *own;
    return address;
  }
  if (absl::Status status = base::CheckCoordinatorTarget(address.target); !status.ok()) return status;
  if (absl::Status may = base::CheckFarmAccess(context.env, address.target, address.trust_folder, "storyctl join");
      !may.ok()) {
    return may;
  }
  return address;
}

Outcome Jobs(const Context& context, const JobsOptions& options) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  std::vector<farm::v1::JobStatus> jobs;
  farm::v1::ListJobsRequest request;
  do {
    request.set_page_size(std::min<uint32_t>(kPageSize, options.limit - static_cast<uint32_t>(jobs.size())));
    auto response = farm.Call(&Client::ListJobs, request);
    if (!response.ok()) return response.status();
    for (farm::v1::JobStatus& job : *response->mutable_jobs()) jobs.push_back(std::move(job));
    request.set_page_token(response->next_page_token());
  } while (!request.page_token().empty() && jobs.size() < options.limit);

  if (context.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const auto& job : jobs) list.push_back(ToJson(job));
    context.console.out() << Print({{"jobs", list}}) << std::endl;
    return ExitCode::kOk;
  }
  if (jobs.empty()) {
    context.console.Note("no jobs yet");
    return ExitCode::kOk;
  }
  std::vector<std::vector<std::string>> rows = {{"JOB", "STATE", "PANELS", "SUBMITTED", "MODEL", "TITLE"}};
  for (const auto& job : jobs) {
    rows.push_back({job.job_id(), job.paused() ? "paused" : plan::StateName(job.state()), Progress(job),
                    LocalTime(job.submitted_unix_ms()), job.model(), job.title()});
  }
  context.console.out() << Table(rows) << std::flush;
  return ExitCode::kOk;
}

Outcome Status(const Context& context, const StatusOptions& options) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::GetJobRequest request;
  request.set_job_id(options.job);
  request.set_with_tasks(options.tasks);
  const auto job = farm.Call(&Client::GetJob, request);
  if (!job.ok()) return job.status();
  if (context.json) {
    context.console.out() << Print(ToJson(*job)) << std::endl;
  } else {
    for (const std::string& line : ProgressLines(*job, 80)) context.console.out() << line << "\n";
    for (const std::string& warning : job->warnings()) context.console.out() << "warning: " << warning << "\n";
    if (options.tasks) PrintTasks(context, *job);
    context.console.out() << std::flush;
  }
  // A job that goes on is no failure; one that ended badly is.
  return IsFinal(job->state()) ? ExitCodeOfJob(job->state()) : ExitCode::kOk;
}

Outcome Cancel(const Context& context, const std::string& job) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::CancelJobRequest request;
  request.set_job_id(job);
  const auto status = farm.Call(&Client::CancelJob, request);
  if (!status.ok()) return status.status();
  if (context.json) {
    context.console.out() << Print(ToJson(*status)) << std::endl;
  } else {
    context.console.out() << absl::StrCat(job, " ", Summary(*status)) << std::endl;
  }
  return ExitCode::kOk;
}

Outcome Nodes(const Context& context) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  const auto response = farm.Call(&Client::ListNodes, farm::v1::ListNodesRequest());
  if (!response.ok()) return response.status();
  if (context.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const auto& node : response->nodes()) list.push_back(ToJson(node));
    context.console.out() << Print({{"nodes", list}}) << std::endl;
    return ExitCode::kOk;
  }
  if (response->nodes().empty()) {
    context.console.Note("no node has joined yet: start storyfarm-worker");
    return ExitCode::kOk;
  }
  std::vector<std::vector<std::string>> rows = {{"NODE", "STATE", "DEVICE", "MEMORY", "SPEED", "NOW", "DONE"}};
  std::vector<std::string> notes;  // sentences, which would push the columns apart
  for (const auto& node : response->nodes()) {
    std::string state = node.connected() ? (node.drained()              ? "drained"
                                            : node.leaving()            ? "leaving"
                                            : !node.resting().empty() ? "rests"
                                                                        : "connected")
                                         : "away";
    if (!node.note().empty()) notes.push_back(absl::StrCat(node.name(), ": ", node.note()));
    if (node.has_limits()) {
      notes.push_back(absl::StrCat(node.name(), ": limited by storyctl worker limit: ", plan::LimitsInWords(node.limits())));
    }
    if (node.devices().empty()) rows.push_back({node.name(), state});
    for (const auto& device : node.devices()) {
      const farm::v1::DeviceReport& report = device.report();
      const uint64_t free = device.has_memory() ? device.memory().free_bytes() : report.free_bytes();
      std::string now = device.task().empty() ? "idle" : device.task();
      if (device.steps() > 0) absl::StrAppend(&now, " ", device.step(), "/", device.steps());
      rows.push_back({node.name(), state, absl::StrCat(plan::BackendName(report.backend()), " ", report.name()),
                      absl::StrCat(FormatBytes(free), " free of ", FormatBytes(report.total_bytes())),
                      absl::StrFormat("%.2f TFLOP/s", report.speed_tflops()), now, absl::StrCat(device.frames_done())});
    }
  }
  context.console.out() << Table(rows);
  for (const std::string& note : notes) context.console.out() << note << "\n";
  context.console.out() << std::flush;
  return ExitCode::kOk;
}

}  // namespace storyfarm::storyctl
