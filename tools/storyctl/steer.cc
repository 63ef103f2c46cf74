// rm, pause, resume, priority, retry, drain, undrain and explain: how a person steers the farm, and asks why it does
// what it does.
#include "absl/strings/str_cat.h"
#include "pipeline/plan/names.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/explanation.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"
#include "tools/storyctl/progress.h"

namespace storyfarm::storyctl {
namespace {

using Client = farm::v1::ClientService::StubInterface;

nlohmann::json ToJson(const farm::v1::Explanation& explanation) {
  nlohmann::json candidates = nlohmann::json::array();
  for (const farm::v1::Candidate& candidate : explanation.candidates()) {
    candidates.push_back({{"node", candidate.node()},
                          {"device", candidate.device()},
                          {"name", candidate.name()},
                          {"free_s", candidate.free_s()},
                          {"setup_s", candidate.setup_s()},
                          {"task_s", candidate.task_s()},
                          {"finish_s", candidate.finish_s()},
                          {"refusal", candidate.refusal()}});
  }
  return {{"task", plan::TaskName(explanation.task())},
          {"state", plan::StateName(explanation.state())},
          {"sentences", std::vector<std::string>(explanation.sentences().begin(), explanation.sentences().end())},
          {"devices", explanation.devices()},
          {"candidates", candidates}};
}

}  // namespace

Outcome Remove(const Context& context, const std::string& job) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::RemoveJobRequest request;
  request.set_job_id(job);
  const auto removed = farm.Call(&Client::RemoveJob, request);
  if (!removed.ok()) return removed.status();
  if (context.json) {
    context.console.out() << Print({{"job_id", job}, {"removed", true}}) << std::endl;
  } else {
    context.console.out() << job << " removed" << std::endl;
  }
  return ExitCode::kOk;
}

Outcome ChangeJob(const Context& context, const ChangeJobOptions& options) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::ChangeJobRequest request;
  request.set_job_id(options.job);
  if (options.paused.has_value()) request.set_paused(*options.paused);
  if (options.priority.has_value()) request.set_priority(*options.priority);
  const auto status = farm.Call(&Client::ChangeJob, request);
  if (!status.ok()) return status.status();
  if (context.json) {
    context.console.out() << Print(ToJson(*status)) << std::endl;
  } else {
    context.console.out() << absl::StrCat(options.job, " ", Summary(*status), ", priority ", status->priority(),
                                          status->paused() ? ", paused" : "")
                          << std::endl;
  }
  return ExitCode::kOk;
}

Outcome Retry(const Context& context, const std::string& job_or_task) {
  farm::v1::RetryJobRequest request;
  if (job_or_task.find('/') == std::string::npos) {
    request.set_job_id(job_or_task);
  } else {
    const auto task = plan::ParseTaskName(job_or_task);
    if (!task.ok()) return task.status();
    *request.mutable_task() = *task;
  }
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  const auto status = farm.Call(&Client::RetryJob, request);
  if (!status.ok()) return status.status();
  if (context.json) {
    context.console.out() << Print(ToJson(*status)) << std::endl;
  } else {
    context.console.out() << absl::StrCat(status->job_id(), " ", Summary(*status)) << std::endl;
  }
  return ExitCode::kOk;
}

Outcome DrainNode(const Context& context, const DrainNodeOptions& options) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::DrainNodeRequest request;
  request.set_node(options.node);
  request.set_drained(options.drained);
  request.set_at_once(options.at_once);
  const auto node = farm.Call(&Client::DrainNode, request);
  if (!node.ok()) return node.status();
  if (context.json) {
    context.console.out() << Print(ToJson(*node)) << std::endl;
  } else {
    context.console.out() << absl::StrCat(options.node, options.drained ? " gets nothing more" : " may work again")
                          << std::endl;
  }
  return ExitCode::kOk;
}

Outcome Explain(const Context& context, const std::string& task) {
  const auto id = plan::ParseTaskName(task);
  if (!id.ok()) return id.status();
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  farm::v1::ExplainTaskRequest request;
  *request.mutable_task() = *id;
  const auto explanation = farm.Call(&Client::ExplainTask, request);
  if (!explanation.ok()) return explanation.status();
  if (context.json) {
    context.console.out() << Print(ToJson(*explanation)) << std::endl;
  } else {
    context.console.out() << ExplanationText(*explanation) << std::flush;
  }
  return ExitCode::kOk;
}

}  // namespace storyfarm::storyctl
