#include "coordinator/core/state.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::Record;
using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_PAGE;

absl::Status Damaged(const std::string& what) { return absl::DataLossError(what); }

}  // namespace

const Job* State::FindJob(const std::string& job_id) const {
  const auto job = jobs_.find(job_id);
  return job == jobs_.end() ? nullptr : &job->second;
}

Job* State::LiveJob(const std::string& job_id) {
  const auto job = jobs_.find(job_id);
  return job == jobs_.end() || live_.count(job->second.ordinal()) == 0 ? nullptr : &job->second;
}

const std::set<Token>* State::GrantsOf(const std::string& node_id) const {
  const auto grants = grants_of_node_.find(node_id);
  return grants == grants_of_node_.end() ? nullptr : &grants->second;
}

const farm::v1::WorkerLimits* State::LimitsOf(const std::string& node_id) const {
  const auto limits = node_limits_.find(node_id);
  return limits == node_limits_.end() ? nullptr : &limits->second;
}

plan::LearnedNeed State::NeedOf(const std::string& model_digest, farm::v1::Backend backend) const {
  const auto need = needs_.find({model_digest, backend});
  return need == needs_.end() ? plan::LearnedNeed{} : need->second;
}

absl::Status State::Apply(const Record& record) {
  if (const absl::Status status = ApplyFact(record); !status.ok()) {
    return Damaged(absl::StrCat("record ", record_count_ + 1, " of the log: ", status.message()));
  }
  ++record_count_;
  return absl::OkStatus();
}

absl::Status State::ApplyFact(const Record& record) {
  if (incarnation_ == 0 && !record.has_taken_over()) return Damaged("the log does not begin with a take-over");
  switch (record.fact_case()) {
    case Record::kTakenOver:
      if (record.taken_over().incarnation() == 0) return Damaged("a take-over without an incarnation");
      incarnation_ = record.taken_over().incarnation();
      next_number_ = 1;
      return absl::OkStatus();
    case Record::kModelAdded:
      models_[record.model_added().model().name()] = record.model_added().model();
      return absl::OkStatus();
    case Record::kJobAccepted:
      return Accept(record.job_accepted());
    case Record::kGranted:
      return Grant(record.granted());
    case Record::kFrameFinished:
      return FinishFrame(record.frame_finished());
    case Record::kIdentityFinished:
      return FinishIdentity(record.identity_finished());
    case Record::kPageFinished:
      return FinishPage(record.page_finished());
    case Record::kTaskReturned:
      return Return(record.task_returned());
    case Record::kTaskFailed:
      return Fail(record.task_failed());
    case Record::kJobCancelled:
      return Cancel(record.job_cancelled());
    case Record::kJobFinished:
      return End(record.job_finished());
    case Record::kNeedLearned: {
      const auto& need = record.need_learned();
      needs_[{need.model_digest(), need.backend()}] = {need.planned_bytes(), need.needed_bytes()};
      return absl::OkStatus();
    }
    case Record::kJobArchived:
      return Archive(record.job_archived());
    case Record::kJobChanged:
      return Change(record.job_changed());
    case Record::kTasksRetried:
      return Retry(record.tasks_retried());
    case Record::kNodeDrained:
      if (record.node_drained().drained()) {
        drained_.insert(record.node_drained().node_id());
      } else {
        drained_.erase(record.node_drained().node_id());
      }
      return absl::OkStatus();
    case Record::kNodeLimited:
      if (record.node_limited().has_limits()) {
        node_limits_[record.node_limited().node_id()] = record.node_limited().limits();
      } else {
        node_limits_.erase(record.node_limited().node_id());
      }
      return absl::OkStatus();
    case Record::kJobForgotten:
      return Forget(record.job_forgotten());
    case Record::kArchiveDropped:
      return DropArchive(record.archive_dropped());
    case Record::kBlobsCondemned:
      return Condemn(record.blobs_condemned());
    case Record::kBlobsDropped:
      return DropBlobs(record.blobs_dropped());
    case Record::kPackStored:
    case Record::kPackUsed:
    case Record::kPackNamed:
    case Record::kPackRemoved:
    case Record::kPackLost:
    case Record::kIdentityReopened:
      return ApplyPackFact(record);
    case Record::kTextFinished:
    case Record::kTextTaken:
    case Record::kTextReopened:
    case Record::kTextDropped:
      return ApplyTextFact(record);
    case Record::kNoticeSettled:
      if (notices_.erase(record.notice_settled().job_id()) > 0) return absl::OkStatus();
      return Damaged(absl::StrCat("the end of job ", record.notice_settled().job_id(), " was told, but is not due"));
    case Record::kAuthorityChosen:
    case Record::kMemberAdded:
    case Record::kMemberRenamed:
    case Record::kMemberRenewed:
      return roster_.Apply(record);
    case Record::kMemberRemoved: {
      const auto member = roster_.members().find(record.member_removed().member_id());
      // Whoever joins with that node id again is neither drained nor limited.
      if (member != roster_.members().end()) {
        drained_.erase(member->second.node_id());
        node_limits_.erase(member->second.node_id());
      }
      return roster_.Apply(record);
    }
    case Record::FACT_NOT_SET:
      return Damaged("a fact of a kind that this version does not know");
  }
  return Damaged("a fact of a kind that this version does not know");
}

absl::Status State::Accept(const farm::v1::JobAccepted& fact) {
  const farm::v1::JobSpec& spec = fact.spec();
  const std::string& id = spec.job_id();
  if (const absl::Status status = Job::Validate(spec, plan::PanelCount(spec.story()), limits_); !status.ok()) {
    return Damaged(absl::StrCat("job ", id, ": ", status.message()));
  }
  if (jobs_.count(id) > 0 || archived_ordinals_.count(id) > 0) return Damaged(absl::StrCat("a second job ", id));
  if (job_of_key_.count(spec.idempotency_key()) > 0) {
    return Damaged(absl::StrCat("job ", id, " has the key of another one"));
  }
  const uint64_t ordinal = next_ordinal_++;
  job_of_key_[spec.idempotency_key()] = id;
  live_[ordinal] = id;
  auto packed = shelf_ != nullptr ? shelf_->Keep(spec) : std::make_shared<const PackedSpec>(spec);
  AddIdentities(jobs_.emplace(id, Job(std::move(packed), ordinal, &panels_)).first->second);
  return absl::OkStatus();
}

void State::AddGrant(Job& job, const Token& token, LiveGrant grant) {
  const auto [at, added] = grants_.emplace(token, std::move(grant));
  if (!added) return;
  grants_of_node_[at->second.node_id].insert(token);
  ++job.live_grants;
}

// `number` is no longer GRANTED under `token`.
void State::Release(Job& job, const Token& token, uint32_t number) {
  const auto grant = grants_.find(token);
  if (grant == grants_.end()) return;
  grant->second.numbers.erase(number);
  if (!grant->second.numbers.empty()) return;
  const auto of_node = grants_of_node_.find(grant->second.node_id);
  of_node->second.erase(token);
  if (of_node->second.empty()) grants_of_node_.erase(of_node);
  grants_.erase(grant);
  --job.live_grants;
}

absl::Status State::Grant(const farm::v1::Granted& fact) {
  Job* job = LiveJob(fact.job_id());
  if (job == nullptr) return Damaged(absl::StrCat("a grant of job ", fact.job_id(), ", which is not live"));
  const Token token = FromMessage(fact.token());
  if (fact.numbers().empty()) return Damaged("a grant of nothing");
  // A token comes back to its own tasks (a node that was thought dead still holds them), or it is new.
  const auto grant = grants_.find(token);
  bool again = grant != grants_.end();
  for (uint32_t number : fact.numbers()) {
    const Slot* slot = job->slot(fact.kind(), number);
    const bool ahead = fact.ahead() && fact.kind() == TASK_FRAME && job->CanGoAhead(number);
    if (slot == nullptr || (slot->state != farm::v1::TASK_READY && !ahead)) {
      return Damaged(absl::StrCat("a grant of task ", number, " of job ", fact.job_id(), ", which is not ready"));
    }
    again |= slot->token == token;
  }
  if (!again && (token.incarnation != incarnation_ || token.number < next_number_)) {
    return Damaged(absl::StrCat("token ", token.number, " is granted twice"));
  }
  for (uint32_t number : fact.numbers()) {
    if (again && job->slot(fact.kind(), number)->token != token) {
      return Damaged(absl::StrCat("token ", token.number, " is granted twice"));
    }
  }
  if (again && grant != grants_.end() &&
      (grant->second.node_id != fact.node_id() || grant->second.job_id != fact.job_id())) {
    return Damaged(absl::StrCat("token ", token.number, " is held by another node"));
  }
  if (!again) next_number_ = token.number + 1;
  const uint32_t node = job->NodeIndex(fact.node_id(), fact.node_name());
  AddGrant(*job, token, {fact.job_id(), fact.kind(), fact.node_id(), fact.device(), fact.planned_bytes(), {}});
  for (uint32_t number : fact.numbers()) {
    job->Granted({fact.kind(), number}, token, node, fact.device(), fact.ahead());
    grants_[token].numbers.insert(number);
  }
  return absl::OkStatus();
}

absl::Status State::Takes(const Job* job, farm::v1::TaskKind kind, uint32_t number, const Token& token) const {
  if (job == nullptr) return Damaged("a result of a job that is not live");
  const Slot* slot = job->slot(kind, number);
  if (slot == nullptr) return Damaged("a result of a task that the job lacks");
  if (slot->token != token || token.number == 0) return Damaged("a result under a token that was replaced");
  // Blocked ones have a token where the identity that they read was opened again.
  if (!job->IsOpen({kind, number})) return Damaged("a second result of one task");
  return absl::OkStatus();
}

absl::Status State::FinishFrame(const farm::v1::FrameFinished& fact) {
  Job* job = LiveJob(fact.job_id());
  const Token token = FromMessage(fact.token());
  const uint32_t panel = fact.result().panel();
  if (const absl::Status status = Takes(job, TASK_FRAME, panel, token); !status.ok()) return status;
  Release(*job, token, panel);
  job->FrameFinished(panel, fact.result(), job->slot(TASK_FRAME, panel)->node - 1);
  return absl::OkStatus();
}

absl::Status State::FinishIdentity(const farm::v1::IdentityFinished& fact) {
  Job* job = LiveJob(fact.job_id());
  const Token token = FromMessage(fact.token());
  if (const absl::Status status = Takes(job, TASK_IDENTITY, fact.number(), token); !status.ok()) return status;
  std::set<uint32_t> due(job->head().identities(static_cast<int>(fact.number())).panels().begin(),
                         job->head().identities(static_cast<int>(fact.number())).panels().end());
  for (const auto& frame : fact.result().frames()) {
    if (due.erase(frame.panel()) == 0) return Damaged("an identity result with a panel that is not its own");
  }
  if (!due.empty()) return Damaged("an identity result that lacks a panel");
  Release(*job, token, fact.number());
  job->IdentityFinished(fact.number(), fact.result());
  return absl::OkStatus();
}

absl::Status State::FinishPage(const farm::v1::PageFinished& fact) {
  Job* job = LiveJob(fact.job_id());
  const Token token = FromMessage(fact.token());
  if (const absl::Status status = Takes(job, TASK_PAGE, fact.number(), token); !status.ok()) return status;
  Release(*job, token, fact.number());
  job->PageFinished(fact.number(), fact.result());
  return absl::OkStatus();
}

absl::Status State::Return(const farm::v1::TaskReturned& fact) {
  Job* job = LiveJob(fact.task().job_id());
  const Slot* slot = job == nullptr ? nullptr : job->slot(fact.task().kind(), fact.task().number());
  const Token token = FromMessage(fact.token());
  if (slot == nullptr || slot->state != farm::v1::TASK_GRANTED || slot->token != token) {
    return Damaged("a task came back that was not granted under this token");
  }
  Release(*job, token, fact.task().number());
  job->Returned({fact.task().kind(), fact.task().number()}, fact.why(), fact.counts());
  return absl::OkStatus();
}

absl::Status State::Fail(const farm::v1::TaskFailed& fact) {
  Job* job = LiveJob(fact.task().job_id());
  const Slot* slot = job == nullptr ? nullptr : job->slot(fact.task().kind(), fact.task().number());
  if (slot == nullptr || IsFinal(slot->state)) return Damaged("a task failed that is not pending");
  if (slot->state == farm::v1::TASK_GRANTED) Release(*job, slot->token, fact.task().number());
  // What was granted before it was opened again fails with it.
  for (const auto& [kind, number] : job->DependentsOf({fact.task().kind(), fact.task().number()})) {
    const Slot& dependent = *job->slot(kind, number);
    if (dependent.state == farm::v1::TASK_GRANTED) Release(*job, dependent.token, number);
  }
  job->Failed({fact.task().kind(), fact.task().number()}, fact.why());
  return absl::OkStatus();
}

void State::MarkEnded(Job& job, farm::v1::JobState state, uint64_t unix_ms, bool notice_due) {
  job.state = state;
  job.finished_unix_ms = unix_ms;
  live_.erase(job.ordinal());
  RemoveIdentities(job);
  ended_.push_back(job.head().job_id());
  finished_.emplace(unix_ms, job.head().job_id());
  if (!notice_due) return;
  farm::v1::JobNotice& notice = notices_[job.head().job_id()];
  notice.set_job_id(job.head().job_id());
  notice.set_state(state);
  notice.set_finished_unix_ms(unix_ms);
  notice.set_frames_total(job.size(TASK_FRAME));
  notice.set_frames_done(job.count(TASK_FRAME, farm::v1::TASK_DONE));
  notice.set_frames_failed(job.count(TASK_FRAME, farm::v1::TASK_FAILED));
  notice.set_pages_total(job.size(TASK_PAGE));
  notice.set_pages_done(job.count(TASK_PAGE, farm::v1::TASK_DONE));
}

absl::Status State::Cancel(const farm::v1::JobCancelled& fact) {
  Job* job = LiveJob(fact.job_id());
  if (job == nullptr) return Damaged(absl::StrCat("job ", fact.job_id(), " was cancelled, but is not live"));
  std::vector<std::pair<Token, uint32_t>> held;
  for (const auto& [token, grant] : grants_) {
    if (grant.job_id != fact.job_id()) continue;
    for (uint32_t number : grant.numbers) held.emplace_back(token, number);
  }
  for (const auto& [token, number] : held) Release(*job, token, number);
  job->Cancel();
  MarkEnded(*job, farm::v1::JOB_CANCELLED, fact.unix_ms(), fact.notice_due());
  return absl::OkStatus();
}

absl::Status State::Change(const farm::v1::JobChanged& fact) {
  Job* job = LiveJob(fact.job_id());
  if (job == nullptr) return Damaged(absl::StrCat("job ", fact.job_id(), " was changed, but is not live"));
  if (fact.priority() < 1 || fact.priority() > kMostPriority) {
    return Damaged(absl::StrCat("job ", fact.job_id(), " got a priority that is none"));
  }
  job->paused = fact.paused();
  job->priority = fact.priority();
  return absl::OkStatus();
}

absl::Status State::End(const farm::v1::JobFinished& fact) {
  Job* job = LiveJob(fact.job_id());
  if (job == nullptr || job->pending() > 0) return Damaged(absl::StrCat("job ", fact.job_id(), " is not finished"));
  if (fact.state() != farm::v1::JOB_DONE && fact.state() != farm::v1::JOB_FAILED) {
    return Damaged(absl::StrCat("job ", fact.job_id(), " ends in a state that is none"));
  }
  MarkEnded(*job, fact.state(), fact.unix_ms(), fact.notice_due());
  return absl::OkStatus();
}

absl::Status State::Retry(const farm::v1::TasksRetried& fact) {
  const auto found = jobs_.find(fact.job_id());
  if (found == jobs_.end() || found->second.state == farm::v1::JOB_CANCELLED) {
    return Damaged(absl::StrCat("job ", fact.job_id(), " was retried, but is not there any more"));
  }
  Job& job = found->second;
  std::optional<TaskKey> only;
  if (fact.has_task()) only = TaskKey{fact.task().kind(), fact.task().number()};
  const std::vector<TaskKey> tasks = job.Retriable(only);
  if (tasks.empty()) return Damaged(absl::StrCat("job ", fact.job_id(), " was retried, but nothing of it failed"));
  if (job.finished_unix_ms > 0) {
    finished_.erase({job.finished_unix_ms, fact.job_id()});
    ended_.erase(std::find(ended_.begin(), ended_.end(), fact.job_id()));
    notices_.erase(fact.job_id());
    job.finished_unix_ms = 0;
    job.state = farm::v1::JOB_RUNNING;
    live_[job.ordinal()] = fact.job_id();
    AddIdentities(job);
  }
  for (const uint32_t page : job.PagesWith(tasks)) {
    const Slot& slot = *job.slot(TASK_PAGE, page);
    if (slot.state == farm::v1::TASK_GRANTED) Release(job, slot.token, page);
  }
  job.Retried(tasks);
  return absl::OkStatus();
}

absl::Status State::Archive(const farm::v1::JobArchived& fact) {
  const auto ended = std::find(ended_.begin(), ended_.end(), fact.job_id());
  if (ended == ended_.end())
    return Damaged(absl::StrCat("job ", fact.job_id(), " can't be archived: it has not ended"));
  ended_.erase(ended);
  const auto job = jobs_.find(fact.job_id());
  const farm::v1::JobSpec& spec = job->second.head();
  archived_[job->second.ordinal()] = {spec.job_id(), spec.idempotency_key(), spec.request_digest(),
                                      job->second.finished_unix_ms};
  archived_ordinals_[spec.job_id()] = job->second.ordinal();
  jobs_.erase(job);
  if (archived_.size() > limits_.archived_jobs) ForgetArchived(archived_.begin()->first);
  return absl::OkStatus();
}

}  // namespace storyfarm::coordinator
