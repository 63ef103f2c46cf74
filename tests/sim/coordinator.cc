#include "tests/sim/coordinator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/core/session.h"

namespace storyfarm::sim {

using coordinator::AppendOutcome;
using coordinator::AppendResult;
using coordinator::Decisions;
using coordinator::Farm;
using coordinator::Reply;
using farm::v1::Record;
using farm::v1::RecordBatch;
using farm::v1::WorkerMessage;

namespace {

// As coordinator/rpc/committer.h has them.
constexpr int kBatchRecords = 1000;
constexpr int64_t kUnresolvedMs = 30'000;
constexpr int64_t kRetryMs = 1000;
// As coordinator/rpc/committer.h has it, too: an idle leader gives a sign of life.
constexpr int64_t kBeatMs = 500;
// A store that does not answer is given up on and asked again.
constexpr int64_t kStoreTimeoutMs = 1000;
constexpr uint64_t kSnapshotRecords = 150;
constexpr uint64_t kSomeDayMs = 1'795'000'000'000;
// Messages and records that wait for a store which refuses everything: what its workers can say in the meantime.
constexpr size_t kMostWaiting = 20'000;

}  // namespace

Coordinator::Coordinator(World* world, uint32_t host, std::function<void(uint32_t, int64_t)> ended)
    : Process(&world->time),
      world_(*world),
      host_(host),
      ended_(std::move(ended)),
      dice_(world->options.seed, 100 + host) {}

coordinator::Time Coordinator::Now() const {
  return {world_.time.now_ms() + leap_ms_, kSomeDayMs + static_cast<uint64_t>(world_.time.now_ms() + wall_ms_)};
}

// ---- Its life -----------------------------------------------------------------------------------------------------

void Coordinator::Boot() {
  BeginLife();
  world_.Trace([this] { return absl::StrCat("coordinator ", host_, " starts"); });
  kill_point_ = KillPoint::kNone;
  watch_.emplace(absl::StrCat("host-", host_));
  store_ = std::make_unique<coordinator::MemoryStore>(world_.disk, absl::StrCat("host-", host_));
  StandBy();
}

void Coordinator::StandBy() {
  After(coordinator::kWatchMs, [this] {
    const int64_t asked_ms = Now().monotonic_ms;
    if (StoreCut()) {
      watch_->NoAnswer();
      return StandBy();
    }
    const absl::StatusOr<coordinator::Leadership> seen = store_->Watch();
    if (seen.ok() && watch_->MayTakeOver(*seen, asked_ms, asked_ms)) return Lead(seen->epoch);
    StandBy();
  });
}

void Coordinator::Lead(uint64_t after_epoch) {
  led_ms_ = Now().monotonic_ms;
  if (const auto epoch = store_->TakeOver(after_epoch); !epoch.ok()) return StandBy();
  ++world_.counts.coordinator_starts;
  world_.Trace([this] { return absl::StrCat("coordinator ", host_, " leads"); });
  world_.newest = host_;
  farm_ = std::make_unique<Farm>(&world_.planner, world_.limits, &world_.specs);
  shadow_ = std::make_unique<Farm>(&world_.planner, world_.limits, &world_.specs);
  Load();
  belief_ = world_.judge.Begins(*farm_, Now().monotonic_ms);
  if (farm_->SerializeState() != world_.truth->SerializeState())
    world_.judge.Complain(Rule::kReplaySame, "a snapshot and the log after it give another state than the whole log");
  if (world_.judge.violation().has_value()) return;
  world_.serving[host_] = true;
  coordinator::Started started;
  const bool repeats = world_.Is(Mutant::kTokensRepeat) && last_incarnation_ != 0;
  started.incarnation = repeats ? last_incarnation_ : dice_.Bits() | 1;
  started.seed = dice_.Bits();
  last_incarnation_ = started.incarnation;
  Step(started);
  tick_due_ms_ = world_.time.now_ms() + coordinator::kTickMs;
  After(coordinator::kTickMs, [this] { Tick(); });
}

absl::Status Coordinator::Replay(const RecordBatch& batch, bool last) {
  if (last && world_.Is(Mutant::kReplayStopsShort)) return absl::OkStatus();
  for (const Record& record : batch.records()) {
    if (record.has_granted() && world_.Is(Mutant::kGrantsForgottenOnReplay)) continue;
    if (record.has_need_learned() && world_.Is(Mutant::kNeedForgottenOnReplay)) continue;
    if (record.has_job_accepted() && last && world_.Is(Mutant::kJobForgottenOnReplay)) continue;
    absl::Status status = farm_->Apply(record);
    if (status.ok()) status = shadow_->Apply(record);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

void Coordinator::Load() {
  const auto end = store_->Load(
      [this](const coordinator::Snapshot& snapshot) {
        absl::Status status = farm_->LoadState(snapshot.pieces);
        if (status.ok()) status = shadow_->LoadState(snapshot.pieces);
        return status;
      },
      [this](const RecordBatch& batch) { return Replay(batch, batch.sequence() == world_.head); });
  if (!end.ok()) return world_.judge.Complain(Rule::kReplaySame, std::string(end.status().message()));
  sequence_ = end->sequence;
  durable_record_ = farm_->last_record();
  snapshot_record_ = durable_record_;
  pending_.clear();
  waiting_.clear();
  node_of_.clear();
  in_flight_ = begin_soon_ = beating_ = false;
  unresolved_since_ms_ = -1;
}

void Coordinator::Disconnect(bool silently) {
  world_.serving[host_] = false;
  world_.network.HostDies(host_, silently);
  std::map<uint64_t, Asked> asked = std::exchange(asked_, {});
  Reply reply;
  reply.status = absl::UnavailableError("the coordinator ended");
  for (auto& [request, each] : asked) each.answer(reply);
}

void Coordinator::Kill(bool silently) {
  if (!up()) return;
  world_.Trace([this] { return absl::StrCat("coordinator ", host_, " ends"); });
  EndLife();
  Disconnect(silently);
}

void Coordinator::Resign() {
  Kill(false);
  Boot();
}

void Coordinator::Die(int64_t restart_ms) {
  Kill(false);
  ended_(host_, restart_ms);
}

bool Coordinator::MaySpeak() const {
  return Now().monotonic_ms - led_ms_ < coordinator::kLeaderLeaseMs || world_.Is(Mutant::kDeposedSpeaks);
}

void Coordinator::BeatIfDue() {
  if (beating_ || in_flight_ || Now().monotonic_ms - led_ms_ < kBeatMs || world_.Is(Mutant::kDeposedSpeaks)) return;
  beating_ = true;
  After(1, [this, asked_ms = Now().monotonic_ms] {
    const absl::Status status = StoreCut() ? absl::UnavailableError("no answer") : store_->Beat();
    if (absl::IsAborted(status)) return Resign();
    After(status.ok() ? 1 : kStoreTimeoutMs, [this, asked_ms, led = status.ok()] {
      beating_ = false;
      if (!led) return;
      led_ms_ = asked_ms;
      Release();
    });
  });
}

void Coordinator::ArmKill(KillPoint point, int64_t restart_ms) {
  kill_point_ = point;
  kill_restart_ms_ = restart_ms;
}

void Coordinator::JumpClock(int64_t ms) {
  wall_ms_ = wall_ms_ > 0 ? -ms : ms;
  leap_ms_ += ms / 10;
}

void Coordinator::CheckReplay() {
  if (farm_->SerializeState() != world_.truth->SerializeState())
    world_.judge.Complain(Rule::kReplaySame, "replaying the log gives another state than the one that wrote it");
}

// ---- Inputs -------------------------------------------------------------------------------------------------------

void Coordinator::Tick() {
  // It was frozen: a heartbeat that waits is heard before the tick that would end its lease.
  const bool late = world_.time.now_ms() > tick_due_ms_;
  tick_due_ms_ = world_.time.now_ms();
  if (late) return After(0, [this] { Tick(); });
  tick_due_ms_ += coordinator::kTickMs;
  After(coordinator::kTickMs, [this] { Tick(); });
  if (const bool low = world_.disk_low_ms > world_.time.now_ms(); low != belief_.held) {
    belief_.held = low;
    if (!world_.Is(Mutant::kLowDiskIgnored)) Step(coordinator::HoldDispatch{low ? "the disk is nearly full" : ""});
  }
  Step(coordinator::Tick{});
  BeatIfDue();
  world_.judge.Queue("messages that wait for the store", waiting_.size(), kMostWaiting);
  world_.judge.Queue("records that wait for the store", pending_.size(), kMostWaiting);
  size_t live = 0;
  for (const auto& [id, job] : belief_.ledger.jobs()) live += job.ended ? 0 : 1;
  world_.judge.Queue("live jobs", live, world_.limits.live_jobs);
}

void Coordinator::Hear(uint64_t stream, uint32_t node, WorkerMessage message) {
  Deliver([this, stream, node, message = std::move(message)]() mutable {
    const bool greeted = node_of_.count(stream) > 0;
    if (!greeted && !message.has_hello()) return;
    if (!message.has_heartbeat() || message.heartbeat().held_size() > 0)
      world_.Trace([&] { return absl::StrCat("node ", node, " > ", message.ShortDebugString()); });
    if (!greeted) node_of_[stream] = message.hello().node_id();
    const std::string node_id = node_of_[stream];
    world_.judge.Hears(belief_, Now().monotonic_ms, stream, node_id, message);
    if (message.has_heartbeat() && world_.Is(Mutant::kWhatIsNotListedRenewed)) {
      for (const auto& [token, grant] : belief_.ledger.live()) {
        if (grant.node_id != node_id) continue;
        farm::v1::HeldTask& held = *message.mutable_heartbeat()->add_held();
        *held.mutable_token() = coordinator::ToMessage(token);
        held.mutable_task()->set_job_id(grant.job_id);
        held.mutable_task()->set_kind(grant.kind);
        held.mutable_task()->set_number(*grant.numbers.begin());
      }
    }
    if (!greeted)
      return Step(coordinator::WorkerConnected{stream, std::move(*message.mutable_hello())}, stream, node_id);
    coordinator::WorkerSaid said;
    said.session = world_.Is(Mutant::kStaleStreamBelieved) ? belief_.newest[node_id] : stream;
    if (message.has_result()) {
      for (const auto& blob : worker::BlobsOf(message.result())) {
        if (world_.blobs.count(blob.digest()) == 0) said.missing_digests.push_back(blob.digest());
      }
      if (world_.Is(Mutant::kBlobsNotChecked)) said.missing_digests.clear();
      const Ledger::Task* task = belief_.ledger.Find(message.result().task());
      if (world_.Is(Mutant::kAttemptNotChecked) && task != nullptr)
        *message.mutable_result()->mutable_token() = coordinator::ToMessage(task->token);
    }
    said.message = std::move(message);
    Step(std::move(said), stream, node_id);
  });
}

void Coordinator::StreamLost(uint64_t stream) {
  Deliver([this, stream] {
    if (node_of_.erase(stream) > 0) Step(coordinator::WorkerGone{stream});
  });
}

void Coordinator::Ask(const std::function<coordinator::Input(uint64_t)>& make, const std::string& key,
                      std::function<void(const Reply&)> answer) {
  const uint64_t request = next_request_++;
  asked_[request] = {key, std::move(answer)};
  Deliver([this, request, input = make(request)]() mutable {
    if (auto* submit = std::get_if<coordinator::SubmitJob>(&input); submit && world_.Is(Mutant::kKeyNotCompared))
      submit->spec.set_idempotency_key(absl::StrCat(submit->spec.idempotency_key(), "#", request));
    Step(std::move(input));
  });
}

void Coordinator::Step(coordinator::Input input, uint64_t session, const std::string& node_id) {
  const bool ticked = std::holds_alternative<coordinator::Tick>(input);
  ++world_.counts.steps;
  Decisions decisions;
  if (!ticked || !world_.Is(Mutant::kLeasesNeverEnd)) decisions = farm_->Step(Now(), std::move(input));
  world_.judge.Decides(belief_, Now().monotonic_ms, decisions, session, node_id, ticked);
  // One that was deposed knows nothing of what was promised since; it may believe that until it speaks.
  if (world_.newest == host_) world_.judge.Knows(*farm_);
  Carry(std::move(decisions));
}

// ---- Decisions ----------------------------------------------------------------------------------------------------

void Coordinator::Alter(std::vector<Record>& records) {
  if (!world_.Is(Mutant::kResultAltered)) return;
  for (Record& record : records) {
    if (record.has_frame_finished()) record.mutable_frame_finished()->mutable_result()->set_render_ms(1);
  }
}

void Coordinator::Wait(uint64_t after_record, std::function<void()> leave) {
  waiting_.push_back({after_record, std::move(leave)});
}

void Coordinator::Carry(Decisions decisions) {
  Alter(decisions.records);
  for (Record& record : decisions.records) {
    world_.Trace([&] { return absl::StrCat("record ", record.ShortDebugString()); });
    pending_.push_back(std::move(record));
  }
  for (coordinator::OutgoingMessage& out : decisions.messages) {
    auto leave = [this, session = out.session, message = std::move(out.message)] {
      world_.judge.Releases(message);
      world_.Trace([&] { return absl::StrCat("node < ", session, " ", message.ShortDebugString()); });
      world_.network.SendDown(session, message);
    };
    if (world_.Is(Mutant::kSendBeforeAppend)) {
      leave();
    } else {
      Wait(out.after_record, std::move(leave));
    }
  }
  for (const coordinator::CloseSession& close : decisions.closes) {
    Wait(close.after_record, [this, close] { world_.network.HostLeaves(close.session, close.status, false); });
  }
  for (const Reply& reply : decisions.replies) {
    const auto found = asked_.find(reply.request);
    auto leave = [this, reply] {
      const auto asked = asked_.find(reply.request);
      if (asked == asked_.end()) return;
      const Asked each = std::move(asked->second);
      asked_.erase(asked);
      if (!each.key.empty()) world_.judge.Replies(each.key, reply);
      each.answer(reply);
    };
    if (found != asked_.end() && world_.Is(Mutant::kReplyBeforeAppend)) {
      leave();
    } else {
      Wait(reply.after_record, std::move(leave));
    }
  }
  for (coordinator::Archive& archive : decisions.archives) {
    Wait(archive.after_record, [this, id = archive.job_id, body = archive.Body()] { PutArchive(id, body); });
  }
  for (coordinator::Notice& notice : decisions.notices) {
    auto leave = [this, body = std::move(notice.body)] { TellEnd(body); };
    if (world_.Is(Mutant::kEndToldBeforeAppend)) {
      leave();
    } else {
      Wait(notice.after_record, std::move(leave));
    }
  }
  if (!pending_.empty()) BeginAppend();
  // What depends on nothing new waits for nothing, but leaves outside of the Step.
  if (pending_.empty() && !in_flight_ && !waiting_.empty()) After(0, [this] { Release(); });
}

// As coordinator/rpc/webhooks.h: at once, and again where no answer comes.
void Coordinator::TellEnd(const farm::v1::JobNotice& notice) {
  if (!MaySpeak()) return After(kRetryMs, [this, notice] { TellEnd(notice); });
  if (!world_.Is(Mutant::kEndNotTold)) world_.judge.Told(notice.job_id());
  After(dice_.Between(1, 300), [this, notice, answered = dice_.Chance(70)] {
    if (!answered) return After(kRetryMs, [this, notice] { TellEnd(notice); });
    Step(coordinator::NoticeAnswered{notice.job_id(), true, 1, ""});
    if (world_.Is(Mutant::kSettledEndToldAgain)) After(kRetryMs, [this, notice] { TellEnd(notice); });
  });
}

void Coordinator::PutArchive(const std::string& job_id, const farm::v1::JobArchive& body) {
  After(2, [this, job_id, body] {
    if (!world_.Is(Mutant::kArchiveNotStored)) {
      world_.TroubleNextWrite();
      const absl::Status status = StoreCut() ? absl::UnavailableError("no answer") : store_->PutArchive(job_id, body);
      if (absl::IsAborted(status)) return Resign();
      if (!status.ok()) return After(kRetryMs, [this, job_id, body] { PutArchive(job_id, body); });
    }
    if (!store_->GetArchive(job_id).ok())
      world_.judge.Complain(Rule::kJobKept, absl::StrCat("job ", job_id, " leaves for an archive that lacks it"));
    Step(coordinator::ArchiveStored{job_id});
  });
}

// ---- The store ----------------------------------------------------------------------------------------------------

void Coordinator::BeginAppend() {
  if (in_flight_ || begin_soon_) return;
  begin_soon_ = true;
  After(1, [this] {
    begin_soon_ = false;
    in_flight_ = true;
    auto batch = std::make_shared<RecordBatch>();
    while (!pending_.empty() && batch->records_size() < kBatchRecords) {
      *batch->add_records() = std::move(pending_.front());
      pending_.pop_front();
    }
    batch->set_sequence(sequence_ + 1);
    pause_ms_ = 20;
    After(1 + std::exchange(world_.trouble.slow_ms, 0), [this, batch] { Write(batch); });
  });
}

void Coordinator::Write(const std::shared_ptr<RecordBatch>& batch) {
  const int64_t asked_ms = Now().monotonic_ms;
  if (StoreCut())
    return After(kStoreTimeoutMs, [this, batch, asked_ms] { Answered(batch, asked_ms, AppendOutcome::kUnknown); });
  if (kill_point_ == KillPoint::kBeforeAppend) return Die(kill_restart_ms_);
  const AppendResult result = world_.Append(*store_, *batch);
  if (kill_point_ == KillPoint::kAfterAppend) return Die(kill_restart_ms_);
  After(1, [this, batch, asked_ms, outcome = result.outcome] { Answered(batch, asked_ms, outcome); });
}

void Coordinator::Answered(const std::shared_ptr<RecordBatch>& batch, int64_t asked_ms, AppendOutcome outcome) {
  if (outcome == AppendOutcome::kFenced && world_.Is(Mutant::kFencedAppendIgnored)) outcome = AppendOutcome::kAppended;
  if (outcome == AppendOutcome::kUnknown && world_.Is(Mutant::kUnknownAppendBelieved))
    outcome = AppendOutcome::kAppended;
  if (outcome == AppendOutcome::kUnknown && world_.Is(Mutant::kUnknownAppendSentAsNew))
    batch->set_sequence(batch->sequence() + 1);
  switch (outcome) {
    case AppendOutcome::kAppended:
      break;
    case AppendOutcome::kFenced:
      return Resign();
    case AppendOutcome::kGap:
      return world_.judge.Complain(Rule::kReplaySame, "a batch does not follow the log's last one");
    case AppendOutcome::kUnknown:
      sign_.NoAnswer(asked_ms);
      if (unresolved_since_ms_ < 0) unresolved_since_ms_ = world_.time.now_ms();
      if (world_.time.now_ms() - unresolved_since_ms_ >= kUnresolvedMs) return Resign();
      pause_ms_ = std::min(pause_ms_ * 2, kRetryMs);
      return After(pause_ms_, [this, batch] { Write(batch); });
    case AppendOutcome::kRefused:
      unresolved_since_ms_ = -1;
      return After(kRetryMs, [this, batch] { Write(batch); });
  }
  in_flight_ = false;
  unresolved_since_ms_ = -1;
  led_ms_ = std::max(led_ms_, std::exchange(sign_, {}).Answered(asked_ms));
  sequence_ = batch->sequence();
  durable_record_ += static_cast<uint64_t>(batch->records_size());
  for (const Record& record : batch->records()) {
    if (const absl::Status status = shadow_->Apply(record); !status.ok())
      return world_.judge.Complain(Rule::kReplaySame, std::string(status.message()));
  }
  if (durable_record_ - snapshot_record_ >= kSnapshotRecords) SaveSnapshot();
  const uint64_t here = life();
  Release();
  if (here == life() && !pending_.empty()) BeginAppend();
}

void Coordinator::Release() {
  if (!MaySpeak()) return;  // the next sign of life goes on
  size_t ready = 0;
  while (ready < waiting_.size() && waiting_[ready].after_record <= durable_record_) ++ready;
  if (ready > 0 && world_.newest != host_)
    world_.judge.Complain(Rule::kDeposedSilent, absl::StrCat("host ", host_, " speaks and another one leads"));
  const bool dies = kill_point_ == KillPoint::kWhileSending && ready > 1;
  if (dies) ready /= 2;
  for (; ready > 0; --ready) {
    const std::function<void()> leave = std::move(waiting_.front().leave);
    waiting_.pop_front();
    leave();
  }
  if (dies) Die(kill_restart_ms_);
}

void Coordinator::SaveSnapshot() {
  snapshot_record_ = durable_record_;
  const Farm& source = world_.Is(Mutant::kSnapshotOfTheUnwritten) ? *farm_ : *shadow_;
  After(2, [this, snapshot = coordinator::Snapshot{sequence_, source.SerializeState()}] {
    if (StoreCut()) return;
    world_.TroubleNextWrite();
    // One that fails is made again after as many records.
    if (absl::IsAborted(store_->SaveSnapshot(snapshot))) Resign();
  });
}

}  // namespace storyfarm::sim
