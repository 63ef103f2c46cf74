// The session under a random world, replayed by its seed: connections break, engines die, uploads fail, disks fill, the
// coordinator grants, trims, revokes and forgets. First all of that (safety), then quiet (liveness: everything ends).
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "tests/worker/core/bench.h"
#include "worker/core/keys.h"

namespace storyfarm::worker {
namespace {

using farm::v1::WorkerMessage;

constexpr uint32_t kDevices = 2;

using ResultKey = std::pair<TokenKey, TaskKey>;

class World {
 public:
  explicit World(uint64_t seed) : random_(seed), bench_(kDevices) {}

  void Play() {
    for (int i = 0; i < 600; ++i) Fault();
    Calm();
  }

 private:
  struct EngineRun {
    StartRun run;
    uint32_t step = 0;
    int stored = 0;
    bool page() const { return run.work.has_page(); }
  };
  static constexpr uint32_t kSteps = 3;

  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }

  void Do(Event event) { Absorb(bench_.Do(std::move(event))); }

  void Absorb(const Actions& actions) {
    for (const Action& action : actions) {
      std::visit([this](const auto& item) { Take(item); }, action);
    }
  }

  void Take(const Send& send) {
    const WorkerMessage& message = send.message;
    ASSERT_TRUE(connected_);
    if (message.has_hello()) {
      ASSERT_FALSE(hello_seen_);
      hello_seen_ = true;
      std::set<ResultKey> named;
      for (const auto& entry : message.hello().outbox()) named.insert({KeyOf(entry.token()), KeyOf(entry.task())});
      for (const ResultKey& key : disk_)
        ASSERT_TRUE(named.count(key) == 1 || answered_.count(key) == 1) << "named in every Hello";
      hello_ = message.hello();
      return;
    }
    ASSERT_TRUE(welcomed_) << "only Hello comes before Welcome";
    if (message.has_result()) {
      const auto key = std::make_pair(KeyOf(message.result().token()), KeyOf(message.result().task()));
      ASSERT_EQ(disk_.count(key), 1U) << "a result is on disk before it is sent";
      for (const auto& blob : BlobsOf(message.result())) ASSERT_EQ(coordinator_blobs_.count(blob.digest()), 1U);
      to_answer_.push_back(message.result());
    }
  }
  void Take(const Prepare& prepare) { preparing_.push_back(prepare.token); }
  void Take(const Follow&) {}
  void Take(const Release&) {}
  void Take(const Measure& measure) { measuring_.push_back(measure.device); }
  void Take(const StartRun& run) {
    ASSERT_TRUE(engine_up_[run.device]);
    std::deque<EngineRun>& engine = runs_[run.device];
    const auto drawn = std::count_if(engine.begin(), engine.end(), [](const auto& it) { return !it.page(); });
    if (run.work.has_page()) {
      ASSERT_EQ(drawn, static_cast<long>(engine.size())) << "one page at a time";
    } else if (drawn > 0) {
      const auto first = std::find_if(engine.begin(), engine.end(), [](const auto& it) { return !it.page(); });
      ASSERT_EQ(drawn, 1) << "one run waits at most";
      ASSERT_EQ(first->step, kSteps) << "no sooner than at the last step of the one before";
    }
    ASSERT_EQ(heard_limit_, limit_.number) << "the owner's word counts with the newest limits";
    ASSERT_TRUE(limit_.limits.devices().empty() || limit_.limits.devices(0) == "cpu") << "the device is lent";
    engine.push_back({run});
  }
  void Take(const StopEngine& stop) {
    runs_.erase(stop.device);
    engine_up_[stop.device] = false;
    stopped_.push_back(stop.device);
  }
  void Take(const StartEngine& start) { starting_.push_back(start.device); }
  void Take(const Persist& persist) { disk_work_.push_back({persist.result, /*clear=*/false}); }
  void Take(const Clear& clear) {
    ASSERT_EQ(answered_.count({KeyOf(clear.token), KeyOf(clear.task)}), 1U) << "cleared only by an answer";
    farm::v1::Result result;
    *result.mutable_token() = clear.token;
    *result.mutable_task() = clear.task;
    disk_work_.push_back({result, /*clear=*/true});
  }
  void Take(const Upload& upload) { uploading_.push_back(upload.blob); }
  void Take(const Limit& limit) {
    ASSERT_EQ(limit.number, limit_.number + 1);
    limit_ = limit;
  }
  void Take(const Admit&) {}
  void Take(const KeepSpeeds& keep) { EXPECT_LT(keep.device, 2U); }
  void Take(const Drained&) { drained_ = true; }
  void Take(const Note&) {}

  template <typename T>
  bool Pop(std::vector<T>* from, T* item) {
    if (from->empty()) return false;
    const size_t index = Below(static_cast<uint32_t>(from->size()));
    *item = (*from)[index];
    from->erase(from->begin() + static_cast<long>(index));
    return true;
  }

  void Connect() {
    if (connected_) return;
    connected_ = true;
    hello_seen_ = false;
    Do(Connected{});
  }
  void Welcome() {
    if (!connected_ || welcomed_) return;
    welcomed_ = true;
    farm::v1::CoordinatorMessage message;
    message.mutable_welcome()->set_heartbeat_ms(2000);
    message.mutable_welcome()->set_lease_ms(15000);
    for (const auto& held : hello_.held()) {
      auto* verdict = message.mutable_welcome()->add_held();
      *verdict->mutable_token() = held.token();
      *verdict->mutable_task() = held.task();
      verdict->set_keep(!faults_on_ || Below(4) != 0);
    }
    for (const auto& entry : hello_.outbox()) {
      if (!faults_on_ || Below(6) != 0) continue;
      auto* verdict = message.mutable_welcome()->add_outbox();
      *verdict->mutable_token() = entry.token();
      *verdict->mutable_task() = entry.task();
      verdict->set_verdict(farm::v1::STALE);
      answered_.insert({KeyOf(entry.token()), KeyOf(entry.task())});
    }
    Do(CoordinatorSaid{message});
  }
  void Break() {
    if (!connected_) return;
    connected_ = welcomed_ = false;
    to_answer_.clear();
    Do(Disconnected{});
  }

  void Grant() {
    if (!welcomed_) return;
    const uint32_t device = Below(kDevices);
    farm::v1::CoordinatorMessage grant;
    const uint64_t token = ++tokens_;
    switch (Below(5)) {
      case 0:
        grant = IdentityGrant(token, device);
        break;
      case 1:
        grant = PageGrant(token, device);
        break;
      default:
        grant = FramesGrant(token, device, Below(50), 1 + Below(5), 1 + Below(3), Below(2) == 0);
    }
    for (const auto& task : grant.grant().tasks()) granted_.insert({KeyOf(grant.grant().token()), KeyOf(task)});
    Do(CoordinatorSaid{grant});
  }
  void TrimOrRevoke() {
    if (!welcomed_ || granted_.empty()) return;
    farm::v1::CoordinatorMessage message;
    auto entry = granted_.begin();
    std::advance(entry, Below(static_cast<uint32_t>(granted_.size())));
    farm::v1::TaskId task;
    task.set_job_id(std::get<0>(entry->second));
    task.set_kind(static_cast<farm::v1::TaskKind>(std::get<1>(entry->second)));
    task.set_number(std::get<2>(entry->second));
    if (Below(2) == 0) {
      *message.mutable_trim()->mutable_token() = Token(entry->first.second);
      *message.mutable_trim()->add_tasks() = task;
    } else {
      *message.mutable_revoke()->mutable_token() = Token(entry->first.second);
      *message.mutable_revoke()->add_tasks() = task;
    }
    Do(CoordinatorSaid{message});
  }

  // By the newest limits, or by those that it counted with before.
  void OwnerSpeaks(const std::string& resting, bool newest) {
    if (newest) heard_limit_ = limit_.number;
    Do(OwnerSays{.resting = resting, .limits = heard_limit_});
  }
  static farm::v1::CoordinatorMessage Limits(const farm::v1::WorkerLimits& limits) {
    farm::v1::CoordinatorMessage message;
    *message.mutable_limits() = limits;
    return message;
  }
  void LimitSomething() {
    if (!welcomed_) return;
    farm::v1::WorkerLimits limits;
    if (Below(2) == 0) limits.set_memory_bytes(Below(2) == 0 ? 500'000'000 : 4'000'000'000);
    if (Below(3) == 0) limits.add_devices(Below(2) == 0 ? "cuda:0" : "cpu");
    Do(CoordinatorSaid{Limits(limits)});
  }

  void RunSomething() {
    if (runs_.empty()) return;
    auto found = runs_.begin();
    std::advance(found, Below(static_cast<uint32_t>(runs_.size())));
    std::deque<EngineRun>& engine = found->second;
    if (engine.empty()) return;
    const size_t at = Below(static_cast<uint32_t>(engine.size()));
    EngineRun& run = engine[at];
    // The engine draws them in turn; pictures are encoded, and pages composed, beside that.
    if (!run.page() && run.step < kSteps) {
      for (size_t i = 0; i < at; ++i) {
        if (!engine[i].page() && engine[i].step < kSteps) return;
      }
    }
    const uint64_t id = run.run.run;
    const farm::v1::Work& work = run.run.work;
    if (!run.page() && run.step < kSteps) {
      const uint32_t step = ++run.step;
      if (work.has_identity())
        Do(BankStepStored{id, step - 1, Blob("bank" + std::to_string(id) + "/" + std::to_string(step))});
      StepReached reached{id, {}, step, kSteps};
      for (const auto& frame : work.frames().frames()) reached.panels.push_back(frame.panel());
      Do(std::move(reached));
      return;
    }
    const int wanted = work.has_frames() ? work.frames().frames_size() : 1;
    if (run.stored < wanted) {
      const int index = run.stored++;
      if (work.has_page()) {
        farm::v1::PageResult page;
        *page.mutable_png() = Blob("page" + std::to_string(id));
        Do(PagesStored{id, page});
      } else {
        FrameStored stored;
        stored.run = id;
        stored.result = Frame(work.has_frames() ? work.frames().frames(index).panel() : 0);
        Do(stored);
      }
      return;
    }
    engine.erase(engine.begin() + static_cast<long>(at));
    Do(RunEnded{id, 1, 1});
  }
  void FailSomething() {
    farm::v1::Failure failure;
    const uint32_t device = Below(kDevices);
    std::deque<EngineRun>& engine = runs_[device];
    if (Below(2) == 0 && !engine.empty()) {
      failure.set_kind(Below(2) == 0 ? farm::v1::OUT_OF_MEMORY : farm::v1::INVALID_OUTPUT);
      const uint64_t id = engine.front().run.run;
      engine.pop_front();
      Do(RunFailed{id, failure});
    } else if (engine_up_[device]) {
      failure.set_kind(farm::v1::ENGINE_ABORTED);
      engine_up_[device] = false;
      runs_.erase(device);
      Do(EngineEnded{device, failure});
    }
  }

  // One thing that the agent owes the session.
  void Serve() {
    farm::v1::FencingToken token;
    uint32_t device = 0;
    farm::v1::Result result;
    farm::v1::BlobRef blob;
    switch (Below(7)) {
      case 0:
        if (!Pop(&preparing_, &token)) break;
        if (faults_on_ && Below(6) == 0) {
          farm::v1::Failure failure;
          failure.set_kind(farm::v1::BLOB_UNAVAILABLE);
          Do(PrepareFailed{token, failure});
        } else {
          Do(Prepared{token});
        }
        break;
      case 1:
        if (Pop(&measuring_, &device))
          Do(MemoryMeasured{device, Memory(device, faults_on_ && Below(8) == 0 ? 1 : 4'000'000'000)});
        break;
      case 2:
        if (Pop(&stopped_, &device)) Do(EngineEnded{device, {}});
        break;
      case 3:
        if (!Pop(&starting_, &device)) break;
        if (faults_on_ && Below(4) == 0) {
          Do(EngineEnded{device, {}});
        } else {
          engine_up_[device] = true;
          Do(EngineReady{device});
        }
        break;
      case 4:
        WriteToDisk();
        break;
      case 5:
        if (!Pop(&uploading_, &blob)) break;
        if (!connected_ || (faults_on_ && Below(5) == 0)) {
          Do(UploadFailed{blob.digest(), "broken", false});
        } else {
          coordinator_blobs_.insert(blob.digest());
          Do(Uploaded{blob.digest()});
        }
        break;
      default: {
        if (!welcomed_ || !Pop(&to_answer_, &result)) break;
        farm::v1::CoordinatorMessage message;
        *message.mutable_verdict()->mutable_token() = result.token();
        *message.mutable_verdict()->mutable_task() = result.task();
        if (faults_on_ && Below(5) == 0) {
          message.mutable_verdict()->set_verdict(farm::v1::BLOBS_MISSING);
          for (const auto& missing : BlobsOf(result)) message.mutable_verdict()->add_missing_digests(missing.digest());
        } else {
          message.mutable_verdict()->set_verdict(Below(4) == 0 ? farm::v1::STALE : farm::v1::ACCEPTED);
          answered_.insert({KeyOf(result.token()), KeyOf(result.task())});
        }
        Do(CoordinatorSaid{message});
      }
    }
  }

  // The disk does its work in order.
  void WriteToDisk() {
    if (disk_work_.empty()) return;
    const auto [result, clear] = disk_work_.front();
    disk_work_.pop_front();
    const ResultKey key(KeyOf(result.token()), KeyOf(result.task()));
    if (clear) {
      disk_.erase(key);
    } else if (faults_on_ && Below(10) == 0) {
      Do(PersistFailed{result.token(), result.task(), {}});
    } else {
      disk_.insert(key);
      Do(Persisted{result.token(), result.task()});
    }
  }

  void Fault() {
    bench_.now_ms += Below(300);
    switch (Below(18)) {
      case 0:
        return Break();
      case 1:
        return Connect();
      case 2:
        return Welcome();
      case 3:
      case 4:
        return Grant();
      case 5:
        return TrimOrRevoke();
      case 6:
        return FailSomething();
      case 7:
      case 8:
        return Do(Tick{});
      case 9:
      case 10:
      case 11:
        return RunSomething();
      case 12:
        return OwnerSpeaks(Below(3) == 0 ? "somebody uses it" : "", Below(3) != 0);
      case 13:
        return LimitSomething();
      default:
        return Serve();
    }
  }

  void Calm() {
    faults_on_ = false;
    Connect();
    Welcome();
    Do(CoordinatorSaid{Limits({})});
    for (int i = 0; i < 20'000; ++i) {
      bench_.now_ms += kTickMs;
      OwnerSpeaks("", /*newest=*/true);
      Connect();
      Welcome();
      Do(Tick{});
      Serve();
      RunSomething();
      if (bench_.session.held_tasks() == 0 && bench_.session.outbox_size() == 0) break;
    }
    EXPECT_EQ(bench_.session.held_tasks(), 0U) << "everything granted ends";
    EXPECT_EQ(bench_.session.outbox_size(), 0U) << "everything finished is delivered";
    Do(Drain{});
    EXPECT_TRUE(drained_);
    while (!disk_work_.empty()) WriteToDisk();
    EXPECT_TRUE(disk_.empty()) << "nothing stays behind on disk";
  }

  std::mt19937_64 random_;
  Bench bench_;
  bool faults_on_ = true;
  bool connected_ = false, welcomed_ = false, hello_seen_ = false, drained_ = false;
  farm::v1::Hello hello_;
  Limit limit_;  // the last one
  uint64_t heard_limit_ = 0;  // that the owner counts with
  uint64_t tokens_ = 0;
  std::map<uint32_t, bool> engine_up_ = {{0, true}, {1, true}};
  std::map<uint32_t, std::deque<EngineRun>> runs_;
  std::vector<farm::v1::FencingToken> preparing_;
  std::vector<uint32_t> measuring_, stopped_, starting_;
  std::vector<farm::v1::Result> to_answer_;
  std::deque<std::pair<farm::v1::Result, bool>> disk_work_;  // true: clear
  std::vector<farm::v1::BlobRef> uploading_;
  std::set<std::string> coordinator_blobs_;
  std::set<ResultKey> granted_, disk_, answered_;
};

TEST(SessionUnderRandomFaults, LosesNothingAndComesToRest) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World(seed).Play();
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
}

}  // namespace
}  // namespace storyfarm::worker
