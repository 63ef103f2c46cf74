// A farm under random fire, by seed: workers die, freeze, lose their disks, say things twice and in the wrong order;
// the coordinator dies with part of its records not yet durable and comes back from the rest. Safety is checked at
// every step; then the fire ends and everything must finish.
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::FencingToken;
using farm::v1::Record;
using farm::v1::TaskId;
using farm::v1::TaskKind;
using farm::v1::WorkerMessage;

using TaskRef = std::tuple<std::string, TaskKind, uint32_t>;

TaskRef RefOf(const TaskId& task) { return {task.job_id(), task.kind(), task.number()}; }

// What the records say, folded by other code than the core's: the judge.
class Judge {
 public:
  void Take(const Record& record) {
    if (record.has_granted()) {
      const auto& fact = record.granted();
      const Token token = FromMessage(fact.token());
      const auto [owner, fresh] = owner_.emplace(token, fact.node_id());
      ASSERT_EQ(owner->second, fact.node_id()) << "one token on two nodes";
      for (uint32_t number : fact.numbers()) {
        const TaskRef task{fact.job_id(), fact.kind(), number};
        ASSERT_EQ(results_.count(task), 0u) << "a finished task was granted";
        ASSERT_TRUE(fresh || token_[task] == token) << "an old token came back for another task";
        token_[task] = token;
      }
    } else if (record.has_frame_finished()) {
      const auto& fact = record.frame_finished();
      Finish({fact.job_id(), farm::v1::TASK_FRAME, fact.result().panel()}, FromMessage(fact.token()),
             fact.result().image().digest());
    } else if (record.has_identity_finished()) {
      const auto& fact = record.identity_finished();
      Finish({fact.job_id(), farm::v1::TASK_IDENTITY, fact.number()}, FromMessage(fact.token()),
             fact.result().bank().steps(0).digest());
    } else if (record.has_page_finished()) {
      const auto& fact = record.page_finished();
      Finish({fact.job_id(), farm::v1::TASK_PAGE, fact.number()}, FromMessage(fact.token()),
             fact.result().png().digest() + fact.result().pdf().digest());
    } else if (record.has_job_cancelled()) {
      ended_.insert(record.job_cancelled().job_id());
    } else if (record.has_job_finished()) {
      ASSERT_TRUE(ended_.insert(record.job_finished().job_id()).second) << "a job ended twice";
    } else if (record.has_tasks_retried()) {
      // Stories here have one page and the book: what is composed anew counts as never made, and its token for nothing.
      const auto& fact = record.tasks_retried();
      ended_.erase(fact.job_id());
      const bool book_alone = fact.task().kind() == farm::v1::TASK_PAGE && fact.task().number() == 1;
      for (const uint32_t page : book_alone ? std::vector<uint32_t>{1} : std::vector<uint32_t>{0, 1}) {
        results_.erase({fact.job_id(), farm::v1::TASK_PAGE, page});
        token_.erase({fact.job_id(), farm::v1::TASK_PAGE, page});
      }
    }
  }
  // Whether the records ever held a result of the task under this token.
  bool Finished(const TaskRef& task, const Token& token) const { return finished_.count({task, token}) > 0; }

 private:
  void Finish(const TaskRef& task, const Token& token, const std::string& digest) {
    ASSERT_EQ(ended_.count(std::get<0>(task)), 0u) << "a result after the job's end";
    ASSERT_EQ(token_[task], token) << "a result under a token that was replaced";
    ASSERT_TRUE(results_.emplace(task, token).second) << "two results of one task";
    finished_.emplace(task, token);
    ASSERT_EQ(digest.size(), 32u);
  }

  std::map<Token, std::string> owner_;
  std::map<TaskRef, Token> token_;
  std::map<TaskRef, Token> results_;
  std::set<std::pair<TaskRef, Token>> finished_;
  std::set<std::string> ended_;
};

struct Worker {
  std::string id;
  uint64_t session = 0;  // 0: not connected
  int64_t frozen_until = 0;
  std::deque<Held> groups;
  std::vector<std::pair<FencingToken, TaskId>> outbox;  // on its disk
  std::vector<WorkerMessage> sending;                   // on the way to the coordinator, in this session
};

class RandomFarm {
 public:
  explicit RandomFarm(uint64_t seed) : random_(seed) {
    planner_.most_batch = 3;
    limits_.finished_jobs_hot = 3;
    limits_.set_aside_ms = 20000;
    limits_.backoff_most_ms = 10000;
    workers_.resize(4);
    for (Worker& worker : workers_) worker.id = NewId();
    Start();
  }

  void Fire(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFatalFailure(); ++i) {
      if (Chance(4) && jobs_.size() < 12) Submit();
      if (Chance(1) && !jobs_.empty() && Chance(30)) Cancel();
      if (Chance(15) && !jobs_.empty()) Retry();
      Worker& worker = workers_[Pick(workers_.size())];
      if (Chance(2)) Kill(worker);
      if (Chance(2)) Disconnect(worker);
      if (Chance(2)) worker.frozen_until = now_ms_ + static_cast<int64_t>(Pick(40000));
      if (Chance(1)) RestartCoordinator();
      Turn(true);
    }
  }

  void Calm() {
    for (Worker& worker : workers_) worker.frozen_until = 0;
    for (int i = 0; i < 30000 && !::testing::Test::HasFatalFailure(); ++i) {
      Turn(false);
      bool done = true;
      for (const auto& [id, spec] : jobs_) {
        const auto status = farm_->GetJob({now_ms_, 0}, id, false);
        done &= !status.ok() || status->finished_unix_ms() > 0;
      }
      if (done) return CheckAllRendered();
    }
    FAIL() << "the farm did not finish after the faults had ended";
  }

  void CheckReplay() {
    Farm fold(&planner_, limits_);
    for (const Record& record : log_) ASSERT_TRUE(fold.Apply(record).ok());
    ASSERT_TRUE(fold.SerializeState() == farm_->SerializeState()) << "replay gives another state";
  }

  size_t restarts() const { return restarts_; }
  size_t deaths() const { return deaths_; }
  size_t retries() const { return retries_; }

 private:
  uint64_t Pick(uint64_t below) { return random_() % below; }
  bool Chance(uint64_t percent) { return Pick(100) < percent; }
  std::string NewId() { return absl::StrCat("node-", ++ids_); }

  void Start() {
    farm_ = std::make_unique<Farm>(&planner_, limits_);
    for (const Record& record : log_) ASSERT_TRUE(farm_->Apply(record).ok());
    waiting_.clear();
    replies_.clear();
    archives_.clear();
    Step(Started{random_() | 1, random_()});
  }

  void RestartCoordinator() {
    CheckReplay();
    ++restarts_;
    // Anything between what was acknowledged and what was sent may have reached the disk.
    durable_ += Pick(log_.size() - durable_ + 1);
    log_.resize(durable_);
    judge_ = Judge();
    for (const Record& record : log_) judge_.Take(record);
    durable_judge_ = judge_;
    for (Worker& worker : workers_) {
      worker.session = 0;
      worker.sending.clear();
    }
    Start();
    for (const std::string& id : promised_) ASSERT_NE(farm_->FindJob(id), JobPlace::kUnknown) << "a job was forgotten";
  }

  void Step(Input input) {
    Decisions out = farm_->Step({now_ms_, static_cast<uint64_t>(now_ms_)}, std::move(input));
    for (Record& record : out.records) {
      judge_.Take(record);
      log_.push_back(std::move(record));
    }
    for (OutgoingMessage& message : out.messages) waiting_.push_back(std::move(message));
    for (const Reply& reply : out.replies) replies_.emplace_back(reply.after_record, reply);
    for (const CloseSession& close : out.closes) {
      for (Worker& worker : workers_) {
        if (worker.session == close.session) worker.session = 0;
      }
    }
    for (const Archive& archive : out.archives) archives_.push_back(archive.job_id);
    ASSERT_LE(durable_, log_.size());
  }

  void Submit() {
    farm::v1::JobSpec spec = Story(absl::StrCat("j-", jobs_.size()), 1 + Pick(12), 0);
    if (spec.story().chapters(0).panels_size() > 3 && Chance(60)) {
      spec = Story(spec.job_id(), spec.story().chapters(0).panels_size(), 1 + Pick(2));
    }
    // Jobs share identities: those of one key have as many frames.
    for (farm::v1::IdentityTask& identity : *spec.mutable_identities()) {
      if (Chance(60)) identity.set_pack_key(DigestOf(absl::StrCat("pack ", Pick(2), " of ", identity.panels_size())));
    }
    jobs_[spec.job_id()] = spec;
    Step(SubmitJob{++requests_, spec});
  }
  void Cancel() {
    auto job = jobs_.begin();
    std::advance(job, Pick(jobs_.size()));
    Step(CancelJob{++requests_, job->first});
  }
  void Retry() {
    auto job = jobs_.begin();
    std::advance(job, Pick(jobs_.size()));
    RetryJob retry{++requests_, job->first, {}};
    if (Chance(50)) {
      const TaskKind kinds[] = {farm::v1::TASK_IDENTITY, farm::v1::TASK_FRAME, farm::v1::TASK_PAGE};
      retry.task = Task(job->first, kinds[Pick(3)], static_cast<uint32_t>(Pick(4)));
    }
    const size_t before = log_.size();
    Step(retry);
    for (size_t i = before; i < log_.size(); ++i) retries_ += log_[i].has_tasks_retried() ? 1 : 0;
  }
  void Kill(Worker& worker) {
    ++deaths_;
    Disconnect(worker);
    worker.groups.clear();
    if (Chance(30)) {  // with its disk
      worker.outbox.clear();
      worker.id = NewId();
    }
  }
  void Disconnect(Worker& worker) {
    if (worker.session != 0 && Chance(50)) Step(WorkerGone{worker.session});  // else nobody notices
    worker.session = 0;
    worker.sending.clear();
  }

  // One small step of everything.
  void Turn(bool fire) {
    now_ms_ += 250;
    Step(Tick{});
    if (!fire || Chance(70)) {
      const size_t more = fire ? Pick(log_.size() - durable_ + 1) : log_.size() - durable_;
      for (size_t i = 0; i < more; ++i) durable_judge_.Take(log_[durable_++]);
      Flush();
    }
    for (Worker& worker : workers_) {
      if (worker.frozen_until > now_ms_) continue;
      if (worker.session == 0) {
        if (!fire || Chance(20)) Connect(worker);
        continue;
      }
      if (!fire || Chance(60)) Work(worker, fire);
      if (now_ms_ % 2000 == 0) Heartbeat(worker);
      // The network: late, doubled, out of order.
      for (int i = 0; i < 4 && worker.session != 0 && !worker.sending.empty(); ++i) {
        if (fire && Chance(30)) break;
        const size_t at = fire ? Pick(worker.sending.size()) : 0;
        const WorkerMessage message = worker.sending[at];
        if (!fire || !Chance(10)) worker.sending.erase(worker.sending.begin() + static_cast<long>(at));
        Step(WorkerSaid{worker.session, message, {}});
      }
    }
    CheckQueues();
  }

  // What is durable may be told.
  void Flush() {
    while (!waiting_.empty() && waiting_.front().after_record <= durable_) {
      const OutgoingMessage out = std::move(waiting_.front());
      waiting_.pop_front();
      for (Worker& worker : workers_) {
        if (worker.session == out.session && out.session != 0) Deliver(worker, out.message);
      }
    }
    for (size_t i = 0; i < replies_.size();) {
      if (replies_[i].first > durable_) {
        ++i;
        continue;
      }
      if (replies_[i].second.status.ok()) promised_.insert(replies_[i].second.job_id);
      replies_.erase(replies_.begin() + static_cast<long>(i));
    }
    std::vector<std::string> stored;
    stored.swap(archives_);
    for (const std::string& id : stored) Step(ArchiveStored{id});
  }

  void Connect(Worker& worker) {
    worker.session = ++sessions_;
    worker.sending.clear();
    farm::v1::Hello hello;
    hello.set_protocol_version(kProtocolVersion);
    hello.set_node_id(worker.id);
    *hello.add_devices() = Harness::Gpu(10 + static_cast<double>(Pick(200)));
    for (const Held& group : worker.groups) {
      for (const TaskId& task : group.left) {
        *hello.add_held()->mutable_token() = group.grant.token();
        *hello.mutable_held(hello.held_size() - 1)->mutable_task() = task;
      }
    }
    for (const auto& [token, task] : worker.outbox) {
      *hello.add_outbox()->mutable_token() = token;
      *hello.mutable_outbox(hello.outbox_size() - 1)->mutable_task() = task;
    }
    Step(WorkerConnected{worker.session, hello});
  }

  void Forget(Worker& worker, const FencingToken& token, const TaskId* task) {
    for (auto group = worker.groups.begin(); group != worker.groups.end();) {
      if (FromMessage(group->grant.token()) == FromMessage(token)) {
        for (auto left = group->left.begin(); left != group->left.end();) {
          left = task == nullptr || RefOf(*left) == RefOf(*task) ? group->left.erase(left) : left + 1;
        }
      }
      group = group->left.empty() ? worker.groups.erase(group) : group + 1;
    }
  }
  void ClearOutbox(Worker& worker, const farm::v1::ResultVerdict& verdict) {
    for (size_t i = 0; i < worker.outbox.size(); ++i) {
      if (FromMessage(worker.outbox[i].first) != FromMessage(verdict.token())) continue;
      if (RefOf(worker.outbox[i].second) != RefOf(verdict.task())) continue;
      worker.outbox.erase(worker.outbox.begin() + static_cast<long>(i));
      return;
    }
  }

  void Deliver(Worker& worker, const farm::v1::CoordinatorMessage& message) {
    if (message.has_grant()) {
      Held held;
      held.grant = message.grant();
      held.left.assign(message.grant().tasks().begin(), message.grant().tasks().end());
      worker.groups.push_back(std::move(held));
    } else if (message.has_welcome()) {
      for (const auto& verdict : message.welcome().held()) {
        if (!verdict.keep()) Forget(worker, verdict.token(), &verdict.task());
      }
      for (const auto& verdict : message.welcome().outbox()) ClearOutbox(worker, verdict);
      for (const auto& [token, task] : worker.outbox) {
        worker.sending.push_back(ResultFor(jobs_.at(task.job_id()), token, task, worker.id));
      }
    } else if (message.has_verdict()) {
      if (message.verdict().verdict() == farm::v1::ACCEPTED) {
        // Told only once it is durable, and true.
        ASSERT_TRUE(
            durable_judge_.Finished(RefOf(message.verdict().task()), FromMessage(message.verdict().token())));
      }
      ClearOutbox(worker, message.verdict());
    } else if (message.has_revoke()) {
      if (message.revoke().tasks().empty()) Forget(worker, message.revoke().token(), nullptr);
      for (const auto& task : message.revoke().tasks()) Forget(worker, message.revoke().token(), &task);
    }
  }

  void Work(Worker& worker, bool fire) {
    if (worker.groups.empty()) return;
    Held& group = worker.groups.front();
    const FencingToken token = group.grant.token();
    if (fire && Chance(3)) {
      WorkerMessage fault;
      *fault.mutable_fault()->mutable_token() = token;
      for (const TaskId& task : group.left) *fault.mutable_fault()->add_tasks() = task;
      const farm::v1::FailureKind kinds[] = {farm::v1::OUT_OF_MEMORY, farm::v1::ENGINE_ABORTED,
                                             farm::v1::PREEMPTED,     farm::v1::DISK_FULL,
                                             farm::v1::INVALID_OUTPUT, farm::v1::BAD_INPUT};
      fault.mutable_fault()->mutable_failure()->set_kind(kinds[Pick(6)]);
      fault.mutable_fault()->mutable_failure()->set_message("random");
      worker.sending.push_back(fault);
      worker.groups.pop_front();
      return;
    }
    const TaskId task = group.left.front();
    Forget(worker, token, &task);
    worker.outbox.emplace_back(token, task);
    worker.sending.push_back(ResultFor(jobs_.at(task.job_id()), token, task, worker.id));
  }
  void Heartbeat(Worker& worker) {
    WorkerMessage message;
    message.mutable_heartbeat();
    for (const Held& group : worker.groups) {
      for (const TaskId& task : group.left) {
        *message.mutable_heartbeat()->add_held()->mutable_token() = group.grant.token();
        *message.mutable_heartbeat()->mutable_held(message.heartbeat().held_size() - 1)->mutable_task() = task;
      }
    }
    worker.sending.push_back(message);
  }

  void CheckQueues() {
    for (const Worker& worker : workers_) {
      ASSERT_LE(worker.groups.size(), 64u) << "groups pile up on one device";
    }
  }

  void CheckAllRendered() {
    for (const std::string& id : promised_) {
      const auto status = farm_->GetJob({now_ms_, 0}, id, true);
      if (!status.ok()) continue;  // archived
      if (status->state() == farm::v1::JOB_CANCELLED) continue;
      for (const auto& task : status->tasks()) {
        ASSERT_TRUE(task.state() == farm::v1::TASK_DONE || task.state() == farm::v1::TASK_FAILED);
      }
      ASSERT_EQ(status->frames_done() + status->frames_failed(), status->frames_total());
    }
  }

  std::mt19937_64 random_;
  TablePlanner planner_;
  Limits limits_;
  std::unique_ptr<Farm> farm_;
  int64_t now_ms_ = 0;
  std::vector<Record> log_;
  size_t durable_ = 0;
  Judge judge_;          // of all records
  Judge durable_judge_;  // of those that are durable
  std::deque<OutgoingMessage> waiting_;
  std::vector<std::pair<uint64_t, Reply>> replies_;
  std::vector<std::string> archives_;
  std::set<std::string> promised_;
  std::map<std::string, farm::v1::JobSpec> jobs_;
  std::vector<Worker> workers_;
  uint64_t ids_ = 0;
  uint64_t sessions_ = 0;
  uint64_t requests_ = 0;
  size_t restarts_ = 0;
  size_t deaths_ = 0;
  size_t retries_ = 0;
};

TEST(RandomFarm, KeepsItsPromisesUnderFireAndFinishesAfterIt) {
  size_t restarts = 0;
  size_t deaths = 0;
  size_t retries = 0;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    RandomFarm farm(seed);
    farm.Fire(400);
    if (::testing::Test::HasFatalFailure()) return;
    farm.Calm();
    if (::testing::Test::HasFatalFailure()) return;
    farm.CheckReplay();
    restarts += farm.restarts();
    deaths += farm.deaths();
    retries += farm.retries();
  }
  EXPECT_GT(restarts, 150u);
  EXPECT_GT(deaths, 500u);
  EXPECT_GT(retries, 30u);
}

TEST(Replay, AFoldThatDiffersIsTold) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 4));
  Farm same(&h.planner);
  for (const Record& record : h.records) ASSERT_TRUE(same.Apply(record).ok());
  EXPECT_TRUE(h.farm().CheckReplay(same).ok());
  Farm shorter(&h.planner);
  for (size_t i = 0; i + 1 < h.records.size(); ++i) ASSERT_TRUE(shorter.Apply(h.records[i]).ok());
  EXPECT_TRUE(absl::IsDataLoss(h.farm().CheckReplay(shorter)));
}

}  // namespace
}  // namespace storyfarm::coordinator
