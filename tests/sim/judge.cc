#include "tests/sim/judge.h"

#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/names.h"
#include "tests/sim/workload.h"

namespace storyfarm::sim {

using coordinator::Farm;
using coordinator::FromMessage;
using coordinator::JobPlace;
using farm::v1::FencingToken;
using farm::v1::Record;
using farm::v1::TaskId;
using farm::v1::WorkerMessage;

void Judge::Complain(Rule rule, const std::string& what) {
  if (!violation_.has_value()) violation_ = Violation{rule, time_->now_ms(), what};
}

void Judge::KnowDevice(const std::string& node_id, uint32_t device, farm::v1::Backend backend) {
  devices_[{node_id, device}] = backend;
}

// ---- The store ----------------------------------------------------------------------------------------------------

void Judge::Durable(const farm::v1::RecordBatch& batch) {
  for (const Record& record : batch.records())
    durable_.Take(record, [this](Rule rule, const std::string& what) { Complain(rule, "in the log: " + what); });
}

// ---- A coordinator ------------------------------------------------------------------------------------------------

Belief Judge::Begins(const Farm& farm, int64_t now_ms) {
  Belief belief;
  belief.ledger = durable_;
  for (const auto& [token, grant] : durable_.live()) belief.news_ms[token] = now_ms;
  Knows(farm);
  return belief;
}

void Judge::Knows(const Farm& farm) {
  for (const std::string& id : promised_) {
    if (farm.FindJob(id) == JobPlace::kUnknown)
      Complain(Rule::kJobKept, absl::StrCat("job ", id, " was accepted and the coordinator does not know it"));
  }
}

void Judge::Hears(Belief& belief, int64_t now_ms, uint64_t session, const std::string& node_id,
                  const WorkerMessage& message) {
  std::map<Token, int64_t>& spoken_for = belief.spoken_for[node_id];
  const auto name = [&spoken_for](const FencingToken& token) { spoken_for.try_emplace(FromMessage(token), 0); };
  if (message.has_hello()) {
    belief.before_hello = std::exchange(belief.newest[node_id], session);
    for (const auto& held : message.hello().held()) name(held.token());
    for (const auto& entry : message.hello().outbox()) name(entry.token());
  }
  if (belief.newest[node_id] != session) return;
  if (message.has_heartbeat()) {
    // What it does not list it does not hold, but for grants that may not have reached it when it wrote.
    for (auto token = spoken_for.begin(); token != spoken_for.end();) {
      token = token->second + lease_ms_ / 2 <= now_ms ? spoken_for.erase(token) : std::next(token);
    }
    for (const auto& held : message.heartbeat().held()) name(held.token());
  }
  if (message.has_progress()) name(message.progress().token());
  if (message.has_result()) name(message.result().token());
  for (const auto& [token, granted_ms] : spoken_for) belief.news_ms[token] = now_ms;
}

void Judge::Decides(Belief& belief, int64_t now_ms, const coordinator::Decisions& decisions, uint64_t session,
                    const std::string& node_id, bool ticked) {
  for (const coordinator::CloseSession& close : decisions.closes) {
    if (session != 0 && close.session == session && belief.newest[node_id] == session)
      belief.newest[node_id] = belief.before_hello;
  }
  if (session != 0 && belief.newest[node_id] != session && !decisions.records.empty())
    Complain(Rule::kStreamCurrent, absl::StrCat("a stream of ", node_id, " that was replaced made records"));
  for (const Record& record : decisions.records) {
    CheckFact(belief, record);
    belief.ledger.Take(record, [this](Rule rule, const std::string& what) { Complain(rule, what); });
    if (!record.has_granted()) continue;
    const Token token = FromMessage(record.granted().token());
    belief.news_ms[token] = now_ms;
    belief.spoken_for[record.granted().node_id()][token] = now_ms;
  }
  if (ticked) CheckLeases(belief, now_ms);
}

void Judge::CheckFact(const Belief& belief, const Record& record) {
  const Ledger& before = belief.ledger;
  if (record.has_granted() && belief.held && !before.Granted(FromMessage(record.granted().token())))
    Complain(Rule::kHeldBack, absl::StrCat("a group of job ", record.granted().job_id(), " was granted meanwhile"));
  farm::v1::Result result;
  if (record.has_frame_finished()) *result.mutable_frame() = record.frame_finished().result();
  if (record.has_identity_finished()) *result.mutable_identity() = record.identity_finished().result();
  if (record.has_page_finished()) *result.mutable_page() = record.page_finished().result();
  if (record.has_text_finished()) *result.mutable_text() = record.text_finished().result();
  if (record.has_pack_stored()) {
    coordinator::BlobSizes named;
    coordinator::CollectBlobs(record.pack_stored().manifest(), &named);
    for (const auto& [digest, size_bytes] : named) {
      if (blobs_->count(digest) == 0) Complain(Rule::kBlobsFirst, "a pack was stored whose blobs are not durable");
    }
  }
  if (result.kind_case() != farm::v1::Result::KIND_NOT_SET) {
    for (const auto& blob : worker::BlobsOf(result)) {
      if (blobs_->count(blob.digest()) == 0)
        Complain(Rule::kBlobsFirst, "a result was taken whose blobs are not durable");
    }
  }
  if (record.has_need_learned()) {
    const farm::v1::NeedLearned& fact = record.need_learned();
    const uint64_t true_need = fact.planned_bytes() * TrueNeedPercent(fact.backend()) / 100;
    if (fact.needed_bytes() > true_need + 1)
      Complain(Rule::kNeedKept,
               absl::StrCat("a need of ", fact.needed_bytes(), " bytes was learned where ", true_need, " are needed"));
  }
  if (!record.has_granted() || record.granted().kind() == farm::v1::TASK_PAGE) return;
  const farm::v1::Granted& fact = record.granted();
  if (fact.planned_bytes() == 0) return;  // held again, not planned again
  const auto device = devices_.find({fact.node_id(), fact.device()});
  if (device == devices_.end()) return Complain(Rule::kMemoryWithinPlan, "a grant went to a device that nobody has");
  const double least = static_cast<double>(SimPlanner::kFrameBytes) * before.NeedOf(device->second);
  if (static_cast<double>(fact.planned_bytes()) < least * 0.999)
    Complain(Rule::kNeedKept, absl::StrCat("a plan counts on ", fact.planned_bytes(), " bytes where ", least,
                                           " were learned to be needed"));
}

void Judge::CheckLeases(const Belief& belief, int64_t now_ms) {
  for (const auto& [token, grant] : belief.ledger.live()) {
    const auto news = belief.news_ms.find(token);
    const int64_t silent_ms = now_ms - (news == belief.news_ms.end() ? 0 : news->second);
    if (silent_ms > lease_ms_)
      Complain(Rule::kLeaseEnds, absl::StrCat("a grant of job ", grant.job_id, " to ", grant.node_id,
                                              " lives on after ", silent_ms, " ms without news"));
  }
}

void Judge::CheckVerdict(const farm::v1::ResultVerdict& verdict) {
  const Token token = FromMessage(verdict.token());
  const std::string name = plan::TaskName(verdict.task());
  if (verdict.verdict() == farm::v1::ACCEPTED) {
    const Ledger::Task* task = durable_.Find(verdict.task());
    if (task == nullptr || task->taken_under != token)
      Complain(Rule::kDurableFirst, absl::StrCat("ACCEPTED for ", name, " left before its record was durable"));
  }
  if (verdict.verdict() == farm::v1::STALE && durable_.Open(token, verdict.task()))
    Complain(Rule::kOutboxKept, absl::StrCat("STALE for ", name, ", whose result is wanted"));
}

void Judge::Told(const std::string& job_id) {
  const auto job = durable_.jobs().find(job_id);
  if (job == durable_.jobs().end() || !job->second.ended)
    return Complain(Rule::kDurableFirst, absl::StrCat("the end of job ", job_id, " was told before it was durable"));
  if (job->second.settled) Complain(Rule::kEndTold, absl::StrCat("the end of job ", job_id, " was told once more"));
  told_.insert(job_id);
}

void Judge::CheckTold() {
  for (const auto& [id, job] : durable_.jobs()) {
    if (job.ended && told_.count(id) == 0)
      Complain(Rule::kEndTold, absl::StrCat("nobody outside was told of the end of job ", id));
  }
}

void Judge::Releases(const farm::v1::CoordinatorMessage& message) {
  if (message.has_grant() && !durable_.Granted(FromMessage(message.grant().token())))
    Complain(Rule::kDurableFirst, "a grant left before its record was durable");
  if (message.has_verdict()) CheckVerdict(message.verdict());
  for (const auto& verdict : message.welcome().outbox()) CheckVerdict(verdict);
}

void Judge::Replies(const std::string& key, const coordinator::Reply& reply) {
  if (!reply.status.ok()) return;
  if (durable_.jobs().count(reply.job_id) == 0)
    Complain(Rule::kDurableFirst, absl::StrCat("job ", reply.job_id, " was promised before its record was durable"));
  promised_.insert(reply.job_id);
  const auto [known, fresh] = job_of_key_.emplace(key, reply.job_id);
  if (!fresh && known->second != reply.job_id)
    Complain(Rule::kOneJobAKey, absl::StrCat("the key ", key, " made jobs ", known->second, " and ", reply.job_id));
}

// ---- A worker -----------------------------------------------------------------------------------------------------

void Judge::WorkerSends(const WorkerMessage& message, const OnDisk& stored, const OnDisk& started) {
  if (message.has_result() && !stored(message.result().token(), message.result().task()))
    Complain(Rule::kDiskFirst,
             absl::StrCat("the result of ", plan::TaskName(message.result().task()), " was sent and is on no disk"));
  for (const TaskId& task : message.trim_reply().released()) {
    if (started(message.trim_reply().token(), task))
      Complain(Rule::kOnlyUnstartedMoves, absl::StrCat(plan::TaskName(task), " was given back after it had begun"));
  }
}

void Judge::WorkerClears(const FencingToken& token, const TaskId& task, bool lost) {
  if (!lost && durable_.Open(FromMessage(token), task))
    Complain(Rule::kOutboxKept, absl::StrCat("the result of ", plan::TaskName(task), " left the disk and is wanted"));
}

void Judge::WorkerRuns(const std::string& node_id, bool already_running, uint64_t planned_bytes, uint64_t free_bytes) {
  if (already_running) Complain(Rule::kMemoryWithinPlan, absl::StrCat("a device of ", node_id, " runs two groups"));
  if (planned_bytes > free_bytes)
    Complain(Rule::kMemoryWithinPlan, absl::StrCat("a device of ", node_id, " runs a plan of ", planned_bytes,
                                                   " bytes where ", free_bytes, " were free"));
}

void Judge::WorkerHolds(const std::string& node_id, uint32_t device, size_t groups) {
  if (groups > groups_a_device_)
    Complain(Rule::kQueuesBounded, absl::StrCat("device ", device, " of ", node_id, " holds ", groups, " groups"));
}

void Judge::Queue(const char* name, size_t size, size_t most) {
  if (size > most) Complain(Rule::kQueuesBounded, absl::StrCat(name, ": ", size, " of at most ", most));
}

}  // namespace storyfarm::sim
