#include "tests/sim/ledger.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/names.h"
#include "tests/sim/workload.h"

namespace storyfarm::sim {
namespace {

using coordinator::FromMessage;
using farm::v1::Record;
using farm::v1::TaskKind;

std::string NameOf(const Token& token) { return absl::StrCat(absl::Hex(token.incarnation), "/", token.number); }

}  // namespace

void Ledger::Take(const Record& record, const Complain& complain) {
  ++records_;
  switch (record.fact_case()) {
    case Record::kTakenOver:
      if (!incarnations_.insert(record.taken_over().incarnation()).second)
        complain(Rule::kTokenFresh, "an incarnation was drawn twice");
      return;
    case Record::kJobAccepted:
      return Accept(record.job_accepted().spec(), complain);
    case Record::kGranted:
      return TakeGrant(record.granted(), complain);
    case Record::kFrameFinished: {
      const auto& fact = record.frame_finished();
      return Finish(fact.job_id(), farm::v1::TASK_FRAME, fact.result().panel(), FromMessage(fact.token()),
                    fact.result().image().digest(), complain);
    }
    case Record::kIdentityFinished: {
      const auto& fact = record.identity_finished();
      return Finish(fact.job_id(), farm::v1::TASK_IDENTITY, fact.number(), FromMessage(fact.token()),
                    fact.result().bank().steps(0).digest(), complain);
    }
    case Record::kPageFinished: {
      const auto& fact = record.page_finished();
      return Finish(fact.job_id(), farm::v1::TASK_PAGE, fact.number(), FromMessage(fact.token()),
                    fact.result().has_png() ? fact.result().png().digest() : fact.result().pdf().digest(), complain);
    }
    case Record::kTextFinished: {
      const auto& fact = record.text_finished();
      return Finish(fact.job_id(), farm::v1::TASK_TEXT, fact.number(), FromMessage(fact.token()),
                    fact.result().embeddings().digest(), complain);
    }
    case Record::kTaskReturned: {
      const farm::v1::TaskId& id = record.task_returned().task();
      Release(FromMessage(record.task_returned().token()), id.number());
      Task* task = FindTask(id.job_id(), id.kind(), id.number());
      if (task == nullptr || !task->ahead) return;
      task->token = Token();
      task->ahead = false;
      return;
    }
    case Record::kTaskFailed: {
      const farm::v1::TaskId& task = record.task_failed().task();
      if (Task* found = FindTask(task.job_id(), task.kind(), task.number())) {
        if (found->taken_under.number > 0 || found->by_pack)
          complain(Rule::kResultOnce, absl::StrCat(plan::TaskName(task), " failed after its result was taken"));
        found->failed = true;
        Release(found->token, task.number());
      }
      return;
    }
    case Record::kJobCancelled:
      return End(record.job_cancelled().job_id(), record.job_cancelled().notice_due(), complain);
    case Record::kJobFinished:
      return End(record.job_finished().job_id(), record.job_finished().notice_due(), complain);
    case Record::kNoticeSettled: {
      const auto job = jobs_.find(record.notice_settled().job_id());
      if (job == jobs_.end() || !job->second.notice_due)
        return complain(Rule::kEndTold, "an end was settled that was not due, or twice");
      job->second.notice_due = false;
      job->second.settled = true;
      return;
    }
    case Record::kNeedLearned:
      needs_[record.need_learned().backend()] = {record.need_learned().planned_bytes(),
                                                 record.need_learned().needed_bytes()};
      return;
    case Record::kJobArchived: {
      const auto job = jobs_.find(record.job_archived().job_id());
      if (job == jobs_.end() || !job->second.ended)
        return complain(Rule::kJobKept, "a job that had not ended went to the archive");
      job->second.archived = true;
      return;
    }
    default:
      return TakePackFact(record, complain);
  }
}

void Ledger::Accept(const farm::v1::JobSpec& spec, const Complain& complain) {
  if (!keys_.insert(spec.idempotency_key()).second)
    complain(Rule::kOneJobAKey, absl::StrCat("the key ", spec.idempotency_key(), " made a second job"));
  Job& job = jobs_[spec.job_id()];
  job.key = spec.idempotency_key();
  for (const auto& chapter : spec.story().chapters())
    job.tasks[farm::v1::TASK_FRAME].resize(job.tasks[farm::v1::TASK_FRAME].size() + chapter.panels_size());
  job.tasks[farm::v1::TASK_IDENTITY].resize(spec.identities_size());
  job.tasks[farm::v1::TASK_PAGE].resize(spec.pages_size());
  job.tasks[farm::v1::TASK_TEXT].resize(spec.texts_size());
  for (const auto& identity : spec.identities()) job.pack_keys.push_back(identity.pack_key());
}

void Ledger::TakePackFact(const Record& record, const Complain& complain) {
  switch (record.fact_case()) {
    case Record::kPackStored:
      if (!packs_.insert(record.pack_stored().manifest().key()).second)
        complain(Rule::kResultOnce, "a key got a second pack");
      return;
    case Record::kPackUsed:
      return TakePack(record.pack_used(), complain);
    case Record::kIdentityReopened: {
      Task* task = FindTask(record.identity_reopened().job_id(), farm::v1::TASK_IDENTITY,
                            record.identity_reopened().number());
      if (task != nullptr) *task = Task();
      return;
    }
    case Record::kTextTaken: {
      Task* task = FindTask(record.text_taken().job_id(), farm::v1::TASK_TEXT, record.text_taken().number());
      if (task == nullptr || task->taken_under.number > 0 || task->failed || task->by_pack)
        return complain(Rule::kResultOnce, "embeddings were taken for a text task that is over or that nobody knows");
      task->by_pack = true;
      return;
    }
    case Record::kTextReopened: {
      Task* task = FindTask(record.text_reopened().job_id(), farm::v1::TASK_TEXT, record.text_reopened().number());
      if (task != nullptr) *task = Task();
      return;
    }
    case Record::kPackRemoved:
      packs_.erase(record.pack_removed().key());
      return;
    default:
      return;
  }
}

void Ledger::TakePack(const farm::v1::PackUsed& fact, const Complain& complain) {
  const std::string name = plan::TaskName(fact.job_id(), farm::v1::TASK_IDENTITY, fact.number());
  Task* task = FindTask(fact.job_id(), farm::v1::TASK_IDENTITY, fact.number());
  if (task == nullptr) return complain(Rule::kJobKept, absl::StrCat("a pack did ", name, ", which nobody knows"));
  const Job& job = jobs_.at(fact.job_id());
  if (job.ended || task->taken_under.number > 0 || task->failed || task->by_pack)
    complain(Rule::kResultOnce, absl::StrCat("a pack did ", name, " after its end"));
  if (packs_.count(job.pack_keys[fact.number()]) == 0)
    complain(Rule::kResultOnce, absl::StrCat("a pack did ", name, " and there is none of its key"));
  const auto grant = live_.find(task->token);
  if (grant != live_.end() && grant->second.job_id == fact.job_id() && grant->second.kind == farm::v1::TASK_IDENTITY &&
      grant->second.numbers.count(fact.number()) > 0)
    complain(Rule::kTokenCurrent, absl::StrCat("a pack did ", name, " while a grant of it is live"));
  task->by_pack = true;
}

void Ledger::TakeGrant(const farm::v1::Granted& fact, const Complain& complain) {
  const Token token = FromMessage(fact.token());
  const auto [owner, fresh] = owner_.emplace(token, fact.node_id());
  if (owner->second != fact.node_id())
    complain(Rule::kTokenFresh, absl::StrCat("token ", NameOf(token), " is held by two nodes"));
  if (fresh && incarnations_.count(token.incarnation) == 0)
    complain(Rule::kTokenFresh, absl::StrCat("token ", NameOf(token), " is of no incarnation that took over"));
  for (const uint32_t number : fact.numbers()) {
    const std::string name = plan::TaskName(fact.job_id(), fact.kind(), number);
    Task* task = FindTask(fact.job_id(), fact.kind(), number);
    if (task == nullptr || jobs_.at(fact.job_id()).ended) {
      complain(Rule::kJobKept, absl::StrCat(name, " was granted and is of no live job"));
      continue;
    }
    if (task->taken_under.number > 0 || task->by_pack)
      complain(Rule::kResultOnce, absl::StrCat(name, " was granted after its end"));
    if (!fresh && task->token != token)
      complain(Rule::kTokenFresh, absl::StrCat("token ", NameOf(token), " came back for ", name));
    const auto before = live_.find(task->token);
    if (before != live_.end() && before->second.job_id == fact.job_id() && before->second.kind == fact.kind() &&
        before->second.numbers.count(number) > 0)
      complain(Rule::kTokenFresh, absl::StrCat(name, " was granted while another grant of it is live"));
    task->token = token;
    task->ahead = fact.ahead();
  }
  const auto [grant, added] = live_.try_emplace(token);
  if (added) {
    grant->second = {fact.job_id(), fact.kind(), fact.node_id(), fact.device(), {}};
    ++holders_[fact.node_id()];
  }
  grant->second.numbers.insert(fact.numbers().begin(), fact.numbers().end());
}

void Ledger::Finish(const std::string& job_id, TaskKind kind, uint32_t number, const Token& token,
                    const std::string& digest, const Complain& complain) {
  const std::string name = plan::TaskName(job_id, kind, number);
  Task* task = FindTask(job_id, kind, number);
  if (task == nullptr) return complain(Rule::kJobKept, absl::StrCat("a result of ", name, ", which nobody knows"));
  if (jobs_.at(job_id).ended) complain(Rule::kResultOnce, absl::StrCat("a result of ", name, " after its job's end"));
  if (task->taken_under.number > 0 || task->failed || task->by_pack)
    complain(Rule::kResultOnce, absl::StrCat("a second end of ", name));
  if (task->token != token || OriginOf(digest) != token)
    complain(Rule::kTokenCurrent, absl::StrCat(name, " took a result made under token ", NameOf(OriginOf(digest)),
                                               " while its token is ", NameOf(task->token)));
  task->taken_under = token;
  std::copy_n(digest.begin(), std::min(digest.size(), task->digest.size()), task->digest.begin());
  Release(token, number);
}

void Ledger::End(const std::string& job_id, bool notice_due, const Complain& complain) {
  const auto job = jobs_.find(job_id);
  if (job == jobs_.end()) return complain(Rule::kJobKept, absl::StrCat("job ", job_id, " ended and nobody knows it"));
  if (job->second.ended) complain(Rule::kResultOnce, absl::StrCat("job ", job_id, " ended twice"));
  job->second.ended = true;
  job->second.notice_due = notice_due;
  for (auto grant = live_.begin(); grant != live_.end();) {
    const auto here = grant++;
    if (here->second.job_id == job_id) Drop(here);
  }
}

void Ledger::Release(const Token& token, uint32_t number) {
  const auto grant = live_.find(token);
  if (grant == live_.end()) return;
  grant->second.numbers.erase(number);
  if (grant->second.numbers.empty()) Drop(grant);
}

void Ledger::Drop(std::map<Token, Grant>::iterator grant) {
  const auto holder = holders_.find(grant->second.node_id);
  if (--holder->second == 0) holders_.erase(holder);
  live_.erase(grant);
}

Ledger::Task* Ledger::FindTask(const std::string& job_id, TaskKind kind, uint32_t number) {
  const auto job = jobs_.find(job_id);
  if (job == jobs_.end() || kind < farm::v1::TASK_IDENTITY || kind > farm::v1::TASK_TEXT) return nullptr;
  std::vector<Task>& tasks = job->second.tasks[kind];
  return number < tasks.size() ? &tasks[number] : nullptr;
}

const Ledger::Task* Ledger::Find(const farm::v1::TaskId& task) const {
  return const_cast<Ledger*>(this)->FindTask(task.job_id(), task.kind(), task.number());
}

bool Ledger::Open(const Token& token, const farm::v1::TaskId& task) const {
  const Task* found = Find(task);
  return found != nullptr && found->token == token && token.number > 0 && found->taken_under.number == 0 &&
         !found->failed && !found->by_pack && !jobs_.at(task.job_id()).ended;
}

double Ledger::NeedOf(farm::v1::Backend backend) const {
  const auto need = needs_.find(backend);
  if (need == needs_.end()) return 1;
  return static_cast<double>(need->second.second) / static_cast<double>(need->second.first);
}

}  // namespace storyfarm::sim
