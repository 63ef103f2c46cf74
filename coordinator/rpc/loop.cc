#include "coordinator/rpc/loop.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/record_log.h"
#include "coordinator/rpc/status.h"

namespace storyfarm::coordinator {
namespace {

template <typename... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <typename... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

Reply Refused(const absl::Status& why) {
  Reply reply;
  reply.status = why;
  return reply;
}

}  // namespace

Loop::Loop(const Options& options, const Parts& parts)
    : options_(options), parts_(parts), farm_(&planner_, options.farm, &specs_) {}

absl::StatusOr<std::unique_ptr<Loop>> Loop::Load(const Options& options, const Parts& parts) {
  std::unique_ptr<Loop> loop(new Loop(options, parts));
  loop->led_ms_ = parts.env->MonotonicMs();
  const absl::StatusOr<uint64_t> epoch = parts.store->TakeOver(options.take_over_after);
  if (!epoch.ok()) return epoch.status();
  if (options.before_replay) {
    if (absl::Status status = options.before_replay(*parts.store); !status.ok()) return status;
  }
  if (absl::Status status = loop->Replay(); !status.ok()) return status;
  return loop;
}

Loop::~Loop() { Stop(); }

absl::Status Loop::Replay() {
  const int64_t began_ms = parts_.env->MonotonicMs();
  second_farm_ = std::make_unique<Farm>(&planner_, options_.farm, &specs_);
  size_t batches = 0;
  const auto end = parts_.store->Load(
      [this](const Snapshot& snapshot) {
        absl::Status status = farm_.LoadState(snapshot.pieces);
        if (status.ok()) status = second_farm_->LoadState(snapshot.pieces);
        return status;
      },
      [this, &batches](const farm::v1::RecordBatch& batch) {
        ++batches;
        for (const farm::v1::Record& record : batch.records()) {
          absl::Status status = farm_.Apply(record);
          if (status.ok()) status = second_farm_->Apply(record);
          if (!status.ok()) return status;
        }
        return absl::OkStatus();
      });
  if (!end.ok()) return end.status();
#ifndef NDEBUG
  if (absl::Status status = farm_.CheckReplay(*second_farm_); !status.ok()) return status;
#endif
  sequence_ = end->sequence;
  durable_record_ = farm_.last_record();
  released_record_ = durable_record_;
  parts_.log->Info(
      "log replayed",
      {{"batches", batches}, {"records", farm_.last_record()}, {"ms", parts_.env->MonotonicMs() - began_ms}});
  return absl::OkStatus();
}

void Loop::Run(Outputs outputs) {
  outputs_ = std::move(outputs);
  SnapshotFold::Events fold_events;
  fold_events.save = [this](Snapshot snapshot, std::function<void()> saved) {
    committer_->SaveSnapshot(std::move(snapshot), std::move(saved));
  };
  fold_events.failed = [this](const absl::Status& why) { Fail(why); };
  fold_ = std::make_unique<SnapshotFold>(std::move(second_farm_), sequence_, options_.snapshots, fold_events);
  Committer::Events events;
  events.durable = [this](std::shared_ptr<const farm::v1::RecordBatch> batch, uint64_t last_record) {
    for (const farm::v1::Record& record : batch->records()) LogRecord(*parts_.log, record);
    if (outputs_.durable) outputs_.durable(*batch);
    fold_->Add(std::move(batch));
    {
      std::lock_guard<std::mutex> lock(mutex_);
      durable_record_ = last_record;
      if (gathering_) return;
    }
    changed_.notify_all();
  };
  events.led = [this](int64_t at_ms) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      led_ms_ = at_ms;
      if (gathering_) return;
    }
    changed_.notify_all();
  };
  events.committed = outputs_.committed;
  events.failed = [this](const absl::Status& why) { Fail(why); };
  committer_ = std::make_unique<Committer>(parts_.store, parts_.env, parts_.log, sequence_, durable_record_,
                                           options_.leader_lease_ms > 0, events);
  std::lock_guard<std::mutex> lock(mutex_);
  running_ = true;
  thread_ = std::thread([this] { Main(); });
}

absl::Status Loop::Refusal() const {
  if (end_.has_value() || draining_ || !running_) {
    return absl::UnavailableError("The coordinator is going down; ask again when it is back.");
  }
  if (asked_.size() >= options_.queued_inputs) {
    return Busy(absl::StrCat("The coordinator is busy: ", asked_.size(),
                             " requests are waiting already. Ask again in a second."),
                1000);
  }
  return absl::OkStatus();
}

absl::Status Loop::Enqueue(Item item) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (absl::Status refusal = Refusal(); !refusal.ok()) return refusal;
    Queue(std::move(item));
    if (gathering_) return absl::OkStatus();
  }
  changed_.notify_all();
  return absl::OkStatus();
}

void Loop::Queue(Item item) {
  const auto* told = std::get_if<Told>(&item);
  const auto* said = told == nullptr ? nullptr : std::get_if<WorkerSaid>(&told->input);
  if (said != nullptr && said->message.has_heartbeat()) {
    heard_.push_back(std::move(item));
  } else if (told != nullptr) {
    told_.push_back(std::move(item));
  } else {
    asked_.push_back(std::move(item));
  }
}

void Loop::Ask(std::function<Input(uint64_t)> make, std::function<void(const Reply&)> answer) {
  const absl::Status refusal = Enqueue(Asked{std::move(make), answer});
  if (!refusal.ok()) answer(Refused(refusal));
}

void Loop::Look(std::function<void(const Farm&, const Time&)> look, std::function<void(const absl::Status&)> answer) {
  const absl::Status refusal = Enqueue(Looked{std::move(look), answer});
  if (!refusal.ok()) answer(refusal);
}

void Loop::Peek(std::function<void(const Farm&)> look, std::function<void(const absl::Status&)> done) {
  const absl::Status refusal = Enqueue(Peeked{std::move(look), done});
  if (!refusal.ok()) done(refusal);
}

void Loop::Tell(Input input, std::function<void()> taken) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (end_.has_value() || draining_ || !running_) return;
    Queue(Told{std::move(input), std::move(taken)});
    if (gathering_) return;
  }
  changed_.notify_all();
}

void Loop::ReadArchive(const std::string& job_id, std::function<void(absl::StatusOr<farm::v1::JobArchive>)> done) {
  committer_->GetArchive(job_id, std::move(done));
}

absl::StatusOr<farm::v1::JobArchive> Loop::ReadArchive(const std::string& job_id) {
  std::promise<absl::StatusOr<farm::v1::JobArchive>> read;
  ReadArchive(job_id, [&read](absl::StatusOr<farm::v1::JobArchive> body) { read.set_value(std::move(body)); });
  return read.get_future().get();
}

void Loop::Drain() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    draining_ = true;
  }
  changed_.notify_all();
}

void Loop::Fail(const absl::Status& why) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!end_.has_value()) end_ = why;
  }
  changed_.notify_all();
}

void Loop::Stop() {
  Fail(absl::UnavailableError("The coordinator was stopped."));
  if (thread_.joinable()) thread_.join();
  if (committer_ != nullptr) committer_->Stop();  // it feeds the fold, so it ends first
  if (fold_ != nullptr) fold_->Stop();
}

Time Loop::Now() const {
  return {parts_.env->MonotonicMs(), static_cast<uint64_t>(std::max<int64_t>(0, parts_.env->NowUnixMs()))};
}

void Loop::Main() {
  Started started;
  while (started.incarnation == 0) started.incarnation = parts_.random_bits();
  started.seed = parts_.random_bits();
  Carry(farm_.Step(Now(), started));
  Commit();
  next_tick_ms_ = parts_.env->MonotonicMs() + kTickMs;
  std::optional<absl::Status> end;
  while (!end.has_value()) end = Turn();
  FailWaiting(end->ok() ? absl::UnavailableError("The coordinator is going down; ask again when it is back.")
                        : absl::UnavailableError(absl::StrCat(
                              "The coordinator stopped before the answer was certain; ask again when it is back. ",
                              end->message())));
  outputs_.ended(*end);
}

std::optional<absl::Status> Loop::Turn() {
  std::deque<Item> items;
  bool tick = false;
  {
    const bool stalled = committer_->pending_bytes() > kUncommittedBytes;
    std::unique_lock<std::mutex> lock(mutex_);
    Gather(lock);
    const auto to_release = [&] {
      return Leads() && (durable_record_ != released_record_ ||
                         (!waiting_.empty() && waiting_.front().after_record <= released_record_));
    };
    const auto idle = [this] { return heard_.empty() && asked_.empty() && told_.empty(); };
    const auto something = [&] {
      return end_.has_value() || to_release() || (!stalled && !idle()) || (draining_ && idle());
    };
    const int64_t wait_ms = std::max<int64_t>(0, next_tick_ms_ - parts_.env->MonotonicMs());
    changed_.wait_for(lock, std::chrono::milliseconds(wait_ms), something);
    if (end_.has_value()) return end_;
    if (draining_ && idle() && waiting_.empty() && durable_record_ == farm_.last_record()) {
      end_ = absl::OkStatus();
      return end_;
    }
    if (draining_ && idle() && !to_release()) {
      changed_.wait(lock, [&] { return end_.has_value() || to_release(); });
      if (end_.has_value()) return end_;
    }
    if (Leads()) released_record_ = durable_record_;
    if (!stalled) {
      items = TakeItems();
      // What is left over has waited already.
      next_turn_ms_ = idle() && items.size() < kManyInputs ? parts_.env->MonotonicMs() + kGatherMs : 0;
      // What a worker said and what waits in the queue is heard before the tick that would end its lease, but the tick
      // does not wait for ever.
      const int64_t due_ms = told_.empty() ? next_tick_ms_ : next_tick_ms_ + kTickMs;
      tick = !draining_ && parts_.env->MonotonicMs() >= due_ms;
    }
    if (stalled) next_tick_ms_ = parts_.env->MonotonicMs() + kTickMs;
  }
  ReleaseDurable();
  for (Item& item : items) Handle(std::move(item));
  if (tick) {
    next_tick_ms_ = parts_.env->MonotonicMs() + kTickMs;
    Carry(farm_.Step(Now(), Tick{}));
  }
  Commit();
  ReleaseDurable();  // what depends on nothing new need not wait for a turn
  return std::nullopt;
}

void Loop::Gather(std::unique_lock<std::mutex>& lock) {
  const int64_t wait_ms = std::min(kGatherMs, next_turn_ms_ - parts_.env->MonotonicMs());
  if (wait_ms <= 0) return;
  gathering_ = true;
  changed_.wait_for(lock, std::chrono::milliseconds(wait_ms), [this] { return end_.has_value(); });
  gathering_ = false;
}

void Loop::Commit() {
  committer_->Append(std::move(records_));
  records_.clear();
}

std::deque<Loop::Item> Loop::TakeItems() {
  std::deque<Item> items = std::exchange(heard_, {});  // one of each worker
  const size_t heard = items.size();
  const auto take = [&items](std::deque<Item>& from, size_t most) {
    for (; !from.empty() && items.size() < most; from.pop_front()) items.push_back(std::move(from.front()));
  };
  take(asked_, heard + (told_.empty() ? kInputsATurn : kInputsATurn / 2));
  take(told_, heard + kInputsATurn);
  return items;
}

void Loop::Handle(Item item) {
  std::visit(Overloaded{
                 [this](Asked& asked) {
                   const uint64_t request = next_request_++;
                   answers_.emplace(request, std::move(asked.answer));
                   Carry(farm_.Step(Now(), asked.make(request)));
                 },
                 [this](Looked& looked) {
                   looked.look(farm_, Now());
                   waiting_.push_back({farm_.last_record(), std::move(looked.answer)});
                 },
                 [this](Peeked& peeked) {
                   peeked.look(farm_);
                   peeked.done(absl::OkStatus());
                 },
                 [this](Told& told) {
                   Carry(farm_.Step(Now(), std::move(told.input)));
                   if (told.taken) told.taken();
                 },
             },
             item);
}

void Loop::Carry(Decisions decisions) {
  for (farm::v1::Record& record : decisions.records) records_.push_back(std::move(record));
  // Before the replies: who is told that somebody was removed finds it so.
  if (decisions.members_changed && outputs_.members) {
    auto leave = [this, members = farm_.ListMembers()](const absl::Status& status) {
      if (status.ok()) outputs_.members(members);
    };
    waiting_.push_back({farm_.last_record(), std::move(leave)});
  }
  for (OutgoingMessage& outgoing : decisions.messages) {
    auto leave = [this, session = outgoing.session,
                  message = std::move(outgoing.message)](const absl::Status& status) mutable {
      if (status.ok()) outputs_.deliver(session, std::move(message));
    };
    waiting_.push_back({outgoing.after_record, std::move(leave)});
  }
  for (const CloseSession& close : decisions.closes) {
    auto leave = [this, close](const absl::Status& status) {
      if (status.ok()) outputs_.close(close.session, close.status);
    };
    waiting_.push_back({close.after_record, std::move(leave)});
  }
  for (Reply& reply : decisions.replies) {
    const auto answer = answers_.find(reply.request);
    if (answer == answers_.end()) continue;
    auto leave = [answer = std::move(answer->second), reply](const absl::Status& status) {
      answer(status.ok() ? reply : Refused(status));
    };
    answers_.erase(reply.request);
    waiting_.push_back({reply.after_record, std::move(leave)});
  }
  for (Archive& archive : decisions.archives) {
    const std::string job_id = archive.job_id;
    committer_->PutArchive(std::move(archive), [this, job_id] { Tell(ArchiveStored{job_id}, {}); });
  }
  for (const DroppedArchive& dropped : decisions.dropped_archives) {
    committer_->RemoveArchive(dropped.job_id, dropped.after_record,
                              [this, job_id = dropped.job_id] { Tell(ArchiveRemoved{job_id}, {}); });
  }
  for (Notice& notice : decisions.notices) {
    auto leave = [this, body = std::move(notice.body)](const absl::Status& status) {
      if (status.ok()) outputs_.notice(body);
    };
    waiting_.push_back({notice.after_record, std::move(leave)});
  }
  if (!decisions.changed_jobs.empty()) outputs_.changed(decisions.changed_jobs);
}

bool Loop::Leads() const {
  return options_.leader_lease_ms == 0 || parts_.env->MonotonicMs() - led_ms_ < options_.leader_lease_ms;
}

bool Loop::leads() {
  std::lock_guard<std::mutex> lock(mutex_);
  return !end_.has_value() && Leads();
}

void Loop::ReleaseDurable() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!Leads()) return;  // its next sign of life, or its end, wakes the loop
  }
  while (!waiting_.empty() && waiting_.front().after_record <= released_record_) {
    Waiting leaving = std::move(waiting_.front());
    waiting_.pop_front();
    leaving.leave(absl::OkStatus());
  }
}

void Loop::FailWaiting(const absl::Status& why) {
  std::deque<Item> items;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    items.swap(asked_);
    heard_.clear();
    told_.clear();
  }
  for (Waiting& waiting : waiting_) waiting.leave(why);
  waiting_.clear();
  for (const auto& [request, answer] : answers_) answer(Refused(why));
  answers_.clear();
  for (const Item& item : items) {
    if (const auto* asked = std::get_if<Asked>(&item)) asked->answer(Refused(why));
    if (const auto* looked = std::get_if<Looked>(&item)) looked->answer(why);
    if (const auto* peeked = std::get_if<Peeked>(&item)) peeked->done(why);
  }
}

}  // namespace storyfarm::coordinator
