// A person asks once more for what failed.
#include "absl/strings/str_cat.h"
#include "coordinator/core/parts.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {

void Farm::Parts::RevokePages(const Job& job, const std::vector<TaskKey>& tasks) {
  for (const uint32_t page : job.PagesWith(tasks)) {
    const Slot& slot = *job.slot(farm::v1::TASK_PAGE, page);
    const auto grant = state.grants().find(slot.token);
    if (slot.state != farm::v1::TASK_GRANTED || grant == state.grants().end()) continue;
    touched_nodes.insert(grant->second.node_id);
    fleet.EndLease(slot.token);
    const auto node = fleet.nodes.find(grant->second.node_id);
    if (node == fleet.nodes.end()) continue;
    farm::v1::CoordinatorMessage message;
    *message.mutable_revoke()->mutable_token() = ToMessage(slot.token);
    Send(node->second.session, std::move(message));
  }
}

void Farm::Parts::On(const RetryJob& input) {
  const Job* job = state.FindJob(input.job_id);
  if (job == nullptr) {
    if (state.archived_ordinals().count(input.job_id) == 0) {
      return Answer(input.request, absl::NotFoundError(absl::StrCat("there is no job ", input.job_id)));
    }
    return Answer(input.request,
                  absl::FailedPreconditionError(absl::StrCat(
                      "job ", input.job_id, " ended long ago and left for the archive: submit its story again under "
                      "another key; identities that it computed are taken from their packs")));
  }
  if (job->state == farm::v1::JOB_CANCELLED) {
    return Answer(input.request,
                  absl::FailedPreconditionError(absl::StrCat("job ", input.job_id, " was cancelled: submit its story "
                                                             "again under another key")));
  }
  if (archives_offered.count(input.job_id) > 0) {
    return Answer(input.request,
                  absl::AbortedError(absl::StrCat("job ", input.job_id, " is just leaving for the archive")));
  }
  if (job->finished_unix_ms > 0 && state.live().size() >= limits.live_jobs) {
    return Answer(input.request,
                  absl::ResourceExhaustedError(absl::StrCat("the farm already has ", state.live().size(),
                                                            " unfinished jobs: wait for one to end, or cancel one")));
  }
  std::optional<TaskKey> only;
  if (input.task.has_value()) only = TaskKey{input.task->kind(), input.task->number()};
  const std::vector<TaskKey> tasks = job->Retriable(only);
  if (tasks.empty()) {
    return Answer(input.request,
                  absl::FailedPreconditionError(
                      only.has_value() ? absl::StrCat(plan::TaskName(*input.task), " has not failed")
                                       : absl::StrCat("no task of job ", input.job_id, " has failed")));
  }
  for (const auto& [kind, number] : tasks) {
    if (kind != farm::v1::TASK_IDENTITY) continue;
    const farm::v1::IdentityTask& identity = job->head().identities(static_cast<int>(number));
    if (identity.pack().empty() || state.packs().Whole(identity.pack_key()) != nullptr) continue;
    return Answer(input.request, absl::FailedPreconditionError(absl::StrCat(
                                     "the pack '", identity.pack(), "', which the story names, is not there: run the "
                                     "story that it was made for again, and retry then")));
  }
  RevokePages(*job, tasks);
  farm::v1::Record record;
  record.mutable_tasks_retried()->set_job_id(input.job_id);
  if (input.task.has_value()) *record.mutable_tasks_retried()->mutable_task() = *input.task;
  notices_offered.erase(input.job_id);
  Commit(std::move(record));
  TakePacks(input.job_id);
  changed.insert(input.job_id);
  schedule = true;
  Answer(input.request, absl::OkStatus(), input.job_id);
}

}  // namespace storyfarm::coordinator
