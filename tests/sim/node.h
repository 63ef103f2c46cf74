// A simulated worker: the real Session, and around it what worker/agent does with threads, files and processes: a disk
// with the outbox and the cache, engines, and a control stream that is opened again whenever it breaks. What the node's
// disk holds survives a kill.
#ifndef STORYFARM_TESTS_SIM_NODE_H_
#define STORYFARM_TESTS_SIM_NODE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/dice.h"
#include "tests/sim/timeline.h"
#include "tests/sim/world.h"
#include "worker/agent/backoff.h"
#include "worker/core/keys.h"
#include "worker/core/session.h"

namespace storyfarm::sim {

// What the next run of an engine does.
enum class RunFate : uint8_t { kEnds, kAborts, kHangs, kStarves, kSpoils };

class Node : public Process {
 public:
  // `left` is called when it has drained.
  Node(World* world, uint32_t index, std::function<void(uint32_t index)> left);

  void Boot();
  void Kill(bool silently);
  void LoseDisk();                               // while it is down
  void Suspend(int64_t ms) { clock_ms_ -= ms; }  // when it is thawed: its clock stood still
  void JumpClock(int64_t ms) { clock_ms_ += ms; }
  void Drain();

  // ---- Faults
  void Doom(uint32_t device, RunFate fate);
  void KillEngine(uint32_t device);
  void TakeMemory(uint32_t device, int64_t ms);
  // Its owner wants it for so long.
  void UseMachine(int64_t ms);
  void FillDisk(uint32_t writes) { full_writes_ += writes; }
  void CorruptBlob(uint64_t pick);
  void BreakUploads(uint32_t uploads) { broken_uploads_ += uploads; }

  // Nothing more of all that, from now on.
  void Calm();

  // ---- The network's end
  void Hear(uint64_t stream, farm::v1::CoordinatorMessage message);
  void StreamLost(uint64_t stream, const absl::Status& why);

  const std::string& id() const { return disk_.node_id; }
  uint32_t device_count() const { return static_cast<uint32_t>(devices_.size()); }
  double tflops() const;  // of all its devices
  // Nothing granted, nothing to deliver.
  bool Idle() const { return session_ == nullptr || (session_->held_tasks() == 0 && session_->outbox_size() == 0); }

 private:
  using ResultKey = std::pair<worker::TokenKey, worker::TaskKey>;

  struct Disk {
    std::string node_id;
    std::map<ResultKey, farm::v1::Result> outbox;
    std::set<std::string> cache;
  };
  struct SimDevice {
    farm::v1::DeviceReport report;
    uint64_t others_bytes = 0;
    bool engine_up = false;
    uint64_t engine_life = 0;
    bool running = false;                     // draws, or encodes prompts
    bool composing = false;                   // pages, beside that
    std::optional<worker::StartRun> waiting;  // for what is drawn
    bool warm = false;
    RunFate fate = RunFate::kEnds;
    uint64_t measured_bytes = 0;  // truly free when it was last measured
    size_t groups = 0;
  };

  void Do(worker::Event event);
  void Take(worker::Send& action);
  void Take(worker::Prepare& action);
  void Take(worker::Follow&) {}  // the simulated engines wait for no step
  void Take(worker::Release& action);
  void Take(worker::Measure& action);
  void Take(worker::StartRun& action);
  void Take(worker::StopEngine& action);
  void Take(worker::StartEngine& action);
  void Take(worker::Persist& action);
  void Take(worker::Clear& action);
  void Take(worker::Upload& action);
  void Take(worker::Limit&) {}
  void Take(worker::Admit&) {}
  void Take(worker::KeepSpeeds&) {}  // one life of a node is long enough to learn them anew
  void Take(worker::Drained& action);
  void Take(worker::Note& action);

  int64_t NowMs() const { return world_.time.now_ms() + clock_ms_; }
  void Tick();
  void Dial();
  void HangUp();
  void TryAgain();
  void Fetch(const farm::v1::FencingToken& token, const std::vector<farm::v1::BlobRef>& inputs, int tries);
  void Write(const farm::v1::Result& result);
  // Work for the one thread that writes, in order.
  void OnDisk(std::function<void()> what);
  bool BlobsReachable() const;
  bool LostBlob(const ResultKey& key) const;

  // ---- node_engines.cc
  farm::v1::DeviceMemory MeasureMemory(uint32_t device);
  void NoticeMemory(uint32_t device);
  void NoteBegun(const worker::StartRun& run);
  void Begin(worker::StartRun run);
  // The engine goes on with what waits for it.
  void GoOn(uint32_t index, bool page);
  void ForgetRuns(uint32_t index);
  void FinishRun(const worker::StartRun& run);
  void EngineEnds(uint32_t device, farm::v1::FailureKind kind, const std::string& why);
  // Calls `what` unless the engine that it is about has ended.
  void AfterInEngine(uint32_t device, int64_t ms, std::function<void()> what);
  farm::v1::BlobRef NewBlob(const farm::v1::FencingToken& token);
  farm::v1::FrameResult NewFrame(const worker::StartRun& run, uint32_t panel, int64_t render_ms);

  World& world_;
  const uint32_t index_;
  const std::function<void(uint32_t)> left_;
  Dice dice_;
  Disk disk_;
  std::vector<SimDevice> devices_;
  std::unique_ptr<worker::Session> session_;
  worker::Backoff backoff_;
  int64_t clock_ms_ = 0;
  uint64_t serial_ = 0;  // of blobs
  uint32_t disks_ = 0;   // that it had

  uint64_t stream_ = 0;  // 0: none
  uint32_t host_ = 0;    // that it dials
  bool welcomed_ = false;

  struct HeldGroup {
    uint32_t device = 0;
    bool ran = false;
  };
  std::map<worker::TokenKey, HeldGroup> groups_;  // not released
  std::set<ResultKey> begun_;
  int64_t disk_free_ms_ = 0;
  uint32_t full_writes_ = 0;
  uint32_t broken_uploads_ = 0;
};

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_NODE_H_
