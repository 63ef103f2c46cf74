#include "tests/sim/node.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/names.h"

namespace storyfarm::sim {

using farm::v1::BlobRef;
using farm::v1::FencingToken;
using farm::v1::Result;
using farm::v1::TaskId;
using worker::KeyOf;

namespace {

constexpr int64_t kFirstPauseMs = 100;
constexpr int64_t kMostPauseMs = 2500;
constexpr int64_t kWelcomeMs = 5000;  // a coordinator that says nothing is given up on
constexpr int64_t kFetchAgainMs = 500;
constexpr int kFetchTries = 120;  // a minute, as worker/agent stays at it for minutes

farm::v1::Failure MakeFailure(farm::v1::FailureKind kind, const std::string& why) {
  farm::v1::Failure failure;
  failure.set_kind(kind);
  failure.set_message(why);
  return failure;
}

}  // namespace

Node::Node(World* world, uint32_t index, std::function<void(uint32_t)> left)
    : Process(&world->time),
      world_(*world),
      index_(index),
      left_(std::move(left)),
      dice_(world->options.seed, 1000 + index),
      backoff_(kFirstPauseMs, kMostPauseMs) {
  const uint32_t devices = dice_.Chance(25) ? 2 : 1;
  for (uint32_t i = 0; i < devices; ++i) devices_.emplace_back().report = DrawDevice(dice_, i);
  clock_ms_ = dice_.Between(0, 1'000'000);
  LoseDisk();
}

// ---- Its life -----------------------------------------------------------------------------------------------------

void Node::LoseDisk() {
  disk_ = Disk();
  disk_.node_id = absl::StrCat("node-", index_, "-", ++disks_);
  for (const SimDevice& device : devices_)
    world_.judge.KnowDevice(disk_.node_id, device.report.index(), device.report.backend());
}

void Node::Boot() {
  BeginLife();
  world_.Trace([this] { return absl::StrCat("node ", index_, " starts as ", disk_.node_id); });
  worker::Self self;
  self.node_id = disk_.node_id;
  self.node_name = disk_.node_id;
  self.process = dice_.Bits() | 1;
  for (SimDevice& device : devices_) {
    self.devices.push_back(device.report);
    device.running = device.composing = device.warm = false;
    device.waiting.reset();
    device.engine_up = true;
    ++device.engine_life;
    device.groups = 0;
  }
  std::vector<Result> outbox;
  for (const auto& [key, result] : disk_.outbox) outbox.push_back(result);
  session_ = std::make_unique<worker::Session>(std::move(self), std::move(outbox), world_.worker_limits);
  groups_.clear();
  begun_.clear();
  disk_free_ms_ = 0;
  stream_ = 0;
  backoff_.Reset();
  After(dice_.Between(50, 300), [this] {
    for (const SimDevice& device : devices_) Do(worker::EngineReady{device.report.index()});
    Dial();
    Tick();
  });
}

void Node::Kill(bool silently) {
  if (!up()) return;
  world_.Trace([this] { return absl::StrCat("node ", index_, " ends"); });
  EndLife();
  if (stream_ != 0) world_.network.NodeLeaves(stream_, silently);
  stream_ = 0;
  session_ = nullptr;
}

void Node::Drain() {
  Deliver([this] {
    if (session_ != nullptr) Do(worker::Drain{});
  });
}

void Node::UseMachine(int64_t ms) {
  Deliver([this, ms] {
    if (session_ == nullptr) return;
    Do(worker::OwnerSays{"somebody uses it"});
    After(ms, [this] { Do(worker::OwnerSays{}); });
  });
}

void Node::Take(worker::Drained&) {
  // Outside of the Step that said so.
  After(0, [this] {
    Kill(false);
    left_(index_);
  });
}

void Node::Tick() {
  After(worker::kTickMs, [this] { Tick(); });
  Do(worker::Tick{});
}

void Node::Do(worker::Event event) {
  ++world_.counts.events;
  worker::Actions actions = session_->Step(NowMs(), std::move(event));
  for (worker::Action& action : actions) {
    std::visit([this](auto& item) { Take(item); }, action);
  }
}

void Node::Take(worker::Note& action) {
  world_.Trace([&] { return absl::StrCat("node ", index_, ": ", action.text); });
}

// ---- The control stream -------------------------------------------------------------------------------------------

void Node::Dial() {
  worker::Connected connected;
  connected.cached.assign(disk_.cache.begin(), disk_.cache.end());
  if (!world_.serving[host_] || !world_.network.Reachable(index_)) {
    Do(std::move(connected));  // its Hello reaches nobody
    After(dice_.Between(5, 50), [this] { TryAgain(); });
    return;
  }
  stream_ = world_.network.Open(index_, host_);
  welcomed_ = false;
  Do(std::move(connected));
  After(kWelcomeMs, [this, stream = stream_] {
    if (stream == stream_ && !welcomed_) HangUp();
  });
}

void Node::HangUp() {
  world_.network.NodeLeaves(stream_, false);
  TryAgain();
}

void Node::TryAgain() {
  if (stream_ == 0 || !welcomed_) host_ = (host_ + 1) % kHosts;
  stream_ = 0;
  Do(worker::Disconnected{});
  After(backoff_.NextMs(dice_.Bits()), [this] { Dial(); });
}

void Node::Hear(uint64_t stream, farm::v1::CoordinatorMessage message) {
  Deliver([this, stream, message = std::move(message)]() mutable {
    if (stream != stream_) return;
    if (message.has_welcome()) {
      welcomed_ = true;
      backoff_.Reset();
    }
    Do(worker::CoordinatorSaid{std::move(message)});
  });
}

void Node::StreamLost(uint64_t stream, const absl::Status& why) {
  Deliver([this, stream, why] {
    if (stream != stream_) return;
    if (absl::IsFailedPrecondition(why))
      world_.judge.Complain(Rule::kFinishes,
                            absl::StrCat("a worker was refused for good: ", std::string(why.message())));
    TryAgain();
  });
}

void Node::Take(worker::Send& action) {
  farm::v1::WorkerMessage& message = action.message;
  if (message.has_trim_reply() && world_.Is(Mutant::kStartedTaskGivenBack)) {
    for (const auto& [token, task] : begun_) {
      if (token != KeyOf(message.trim_reply().token())) continue;
      TaskId& added = *message.mutable_trim_reply()->add_released();
      added.set_job_id(std::get<0>(task));
      added.set_kind(static_cast<farm::v1::TaskKind>(std::get<1>(task)));
      added.set_number(std::get<2>(task));
    }
  }
  world_.judge.WorkerSends(
      message,
      [this](const FencingToken& token, const TaskId& task) {
        return disk_.outbox.count({KeyOf(token), KeyOf(task)}) > 0;
      },
      [this](const FencingToken& token, const TaskId& task) {
        return begun_.count({KeyOf(token), KeyOf(task)}) > 0;
      });
  if (message.has_result() && world_.Is(Mutant::kOutboxClearedBeforeAck)) {
    worker::Clear clear{message.result().token(), message.result().task()};
    Take(clear);
  }
  if (stream_ != 0) world_.network.SendUp(stream_, std::move(message));
}

// ---- Blobs --------------------------------------------------------------------------------------------------------

bool Node::BlobsReachable() const {
  const bool served = std::find(world_.serving.begin(), world_.serving.end(), true) != world_.serving.end();
  return served && world_.network.Reachable(index_);
}

void Node::Take(worker::Prepare& action) {
  groups_[KeyOf(action.token)].device = action.device;
  world_.judge.WorkerHolds(disk_.node_id, action.device, ++devices_[action.device].groups);
  Fetch(action.token, worker::InputsOf(action.work), 0);
}

void Node::Fetch(const FencingToken& token, const std::vector<BlobRef>& inputs, int tries) {
  int64_t missing = 0;
  for (const BlobRef& blob : inputs) missing += disk_.cache.count(blob.digest()) == 0 ? 1 : 0;
  After(2 + 20 * missing, [this, token, inputs, missing, tries] {
    if (groups_.count(KeyOf(token)) == 0) return;
    const bool there = std::all_of(inputs.begin(), inputs.end(), [this](const BlobRef& blob) {
      return world_.blobs.count(blob.digest()) > 0 || disk_.cache.count(blob.digest()) > 0;
    });
    if (missing > 0 && (!there || (!BlobsReachable() && tries >= kFetchTries)))
      return Do(worker::PrepareFailed{token, MakeFailure(farm::v1::BLOB_UNAVAILABLE, "an input can't be had")});
    if (missing > 0 && !BlobsReachable())
      return After(kFetchAgainMs, [this, token, inputs, tries] { Fetch(token, inputs, tries + 1); });
    for (const BlobRef& blob : inputs) disk_.cache.insert(blob.digest());
    Do(worker::Prepared{token});
  });
}

void Node::Take(worker::Release& action) {
  const auto group = groups_.find(KeyOf(action.token));
  if (group == groups_.end()) return;
  --devices_[group->second.device].groups;
  groups_.erase(group);
  begun_.erase(begun_.lower_bound({KeyOf(action.token), {}}),
               begun_.upper_bound({KeyOf(action.token), {"\xff", 255, UINT32_MAX}}));
}

void Node::Take(worker::Upload& action) {
  After(dice_.Between(5, 30), [this, digest = action.blob.digest()] {
    if (disk_.cache.count(digest) == 0) return Do(worker::UploadFailed{digest, "gone from the cache", true});
    if (!BlobsReachable()) return Do(worker::UploadFailed{digest, "no coordinator", false});
    if (broken_uploads_ > 0) {
      --broken_uploads_;
      return Do(worker::UploadFailed{digest, "arrived damaged", false});
    }
    world_.blobs.insert(digest);
    Do(worker::Uploaded{digest});
  });
}

// ---- The outbox on disk -------------------------------------------------------------------------------------------

void Node::OnDisk(std::function<void()> what) {
  disk_free_ms_ = std::max(disk_free_ms_, world_.time.now_ms()) + dice_.Between(1, 3);
  After(disk_free_ms_ - world_.time.now_ms(), std::move(what));
}

bool Node::LostBlob(const ResultKey& key) const {
  const auto entry = disk_.outbox.find(key);
  if (entry == disk_.outbox.end()) return false;
  for (const BlobRef& blob : worker::BlobsOf(entry->second)) {
    if (disk_.cache.count(blob.digest()) == 0) return true;
  }
  return false;
}

void Node::Write(const Result& result) {
  const auto fail = [&](farm::v1::FailureKind kind, const std::string& why) {
    Do(worker::PersistFailed{result.token(), result.task(), MakeFailure(kind, why)});
  };
  if (full_writes_ > 0) {
    --full_writes_;
    return fail(farm::v1::DISK_FULL, "the disk is full");
  }
  for (const BlobRef& blob : worker::BlobsOf(result)) {
    if (disk_.cache.count(blob.digest()) == 0) return fail(farm::v1::INTERNAL, "a blob is gone from the cache");
  }
  disk_.outbox[{KeyOf(result.token()), KeyOf(result.task())}] = result;
  Do(worker::Persisted{result.token(), result.task()});
}

void Node::Take(worker::Persist& action) {
  if (world_.Is(Mutant::kSentBeforePersisted)) {
    After(0, [this, token = action.result.token(), task = action.result.task()] {
      Do(worker::Persisted{token, task});
    });
    After(100, [this, result = std::move(action.result)] { Write(result); });
    return;
  }
  const size_t most = 2 * devices_.size() * world_.limits.frames_a_group * coordinator::Limits().groups_a_device;
  world_.judge.Queue("outbox", session_->outbox_size(), most);
  OnDisk([this, result = std::move(action.result)] { Write(result); });
}

void Node::Take(worker::Clear& action) {
  const ResultKey key(KeyOf(action.token), KeyOf(action.task));
  world_.judge.WorkerClears(action.token, action.task, LostBlob(key));
  OnDisk([this, key] { disk_.outbox.erase(key); });
}

void Node::Calm() {
  full_writes_ = broken_uploads_ = 0;
  if (up()) Deliver([this] { Do(worker::OwnerSays{}); });
  for (SimDevice& device : devices_) {
    device.fate = RunFate::kEnds;
    device.others_bytes = 0;
    NoticeMemory(device.report.index());
  }
}

void Node::CorruptBlob(uint64_t pick) {
  // A picture that still waits to go up, where there is one.
  for (const auto& [key, result] : disk_.outbox) {
    const std::vector<BlobRef> blobs = worker::BlobsOf(result);
    if (disk_.cache.erase(blobs[pick % blobs.size()].digest()) > 0) return;
  }
  if (disk_.cache.empty()) return;
  auto blob = disk_.cache.begin();
  std::advance(blob, static_cast<long>(pick % disk_.cache.size()));
  disk_.cache.erase(blob);
}

}  // namespace storyfarm::sim
