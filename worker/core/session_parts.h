// What Session is made of. control.cc speaks with the coordinator, devices.cc with the engines, owner.cc with
// whoever lends the machine.
#ifndef STORYFARM_WORKER_CORE_SESSION_PARTS_H_
#define STORYFARM_WORKER_CORE_SESSION_PARTS_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "worker/core/group.h"
#include "worker/core/keys.h"
#include "worker/core/outbox.h"
#include "worker/core/session.h"
#include "worker/core/silence.h"
#include "worker/core/speeds.h"

namespace storyfarm::worker {

// A slice on an engine.
struct Running {
  uint64_t run = 0;
  TokenKey token;
  std::vector<size_t> slice;  // positions of its group's tasks
  RunKind kind;
  bool page = false;  // composed beside what is drawn
  Phase phase = Phase::kLoading;
  bool last_pass = false;  // with kFinishing: nothing of it is left to draw
  int64_t last_sign_ms = 0;
  int64_t last_progress_ms = 0;

  bool begun() const { return phase != Phase::kLoading; }
};

enum class EngineState {
  kDown,      // to be started at start_at_ms
  kStarting,  // also the first one, which the agent starts
  kReady,
  kStopping,  // by our wish: its end is no fault
};

struct Device {
  farm::v1::DeviceReport report;
  farm::v1::DeviceMemory memory;
  EngineState engine = EngineState::kStarting;
  int64_t start_at_ms = 0;
  uint32_t ends_in_a_row = 0;
  std::deque<TokenKey> queue;  // groups in the order they came
  std::deque<Running> runs;    // that the engine has, in the order in which it began or will begin them
  std::optional<TokenKey> measuring;  // waits for memory before its first slice
  bool too_large = false;  // its engine holds more than limits that came since let it: it ends with what it runs
  Speeds speeds;
};

struct Session::Parts {
  Parts(Self self_in, const Limits& limits_in)
      : self(std::move(self_in)), limits(limits_in), outbox(limits_in), silence(limits_in) {}

  Self self;
  Limits limits;
  Outbox outbox;
  SilenceLimits silence;
  std::map<uint32_t, Device> devices;
  std::map<TokenKey, Group> groups;
  std::vector<farm::v1::TaskFault> faults;  // wait for a Welcome
  bool connected = false;
  bool welcomed = false;
  bool draining = false;
  bool admits = false;  // somebody may read the cache over the network
  farm::v1::WorkerLimits lent;  // by the coordinator, beside what the owner lends where the worker runs
  uint64_t last_limit = 0;      // the last Limit's number
  uint64_t heard_limit = 0;     // that the owner's last word counts with
  OwnerSays owner;  // `resting`: why the owner wants the machine for themselves; empty: it works
  bool drained = false;
  int64_t heartbeat_ms = 0;
  int64_t lease_ms = 0;       // by the last Welcome
  int64_t leases_end_ms = 0;  // while not welcomed: when those that were renewed last are over
  int64_t next_heartbeat_ms = 0;
  int64_t now_ms = 0;
  uint64_t next_run = 1;
  Actions actions;

  // ---- control.cc
  void On(Connected event);
  void On(Disconnected event);
  void On(CoordinatorSaid event);
  void On(const Persisted& event);
  void On(PersistFailed event);
  void On(const Uploaded& event);
  void On(const UploadFailed& event);
  void On(Drain event);
  void OnWelcome(const farm::v1::Welcome& welcome);
  // Nobody reads the cache over the network where the coordinator has been away for a lease.
  void CloseCacheWhenLeft();
  void OnGrant(farm::v1::Grant grant);
  void OnRevoke(const farm::v1::Revoke& revoke);
  void OnTrim(const farm::v1::Trim& trim);
  void OnBankGrown(farm::v1::BankGrown grown);
  // Tells the coordinator of a step of the bank that the group's run writes.
  void TellBankStep(const Group& group, uint32_t step);
  void SendHello(std::vector<std::string> cached);
  void SendHeartbeatIfDue();
  void SendLeaving();
  void Finish(Group* group, size_t index, farm::v1::Result result);
  // Reports these tasks of a group, now or after the next Welcome; they are then over.
  void Fault(Group* group, const std::vector<size_t>& tasks, const farm::v1::Failure& failure);
  void GiveBack(const farm::v1::FencingToken& token, std::vector<farm::v1::TaskId> tasks);
  void Post(farm::v1::WorkerMessage message) { actions.push_back(Send{std::move(message)}); }
  void Say(bool warning, std::string text, const farm::v1::FencingToken& token = {}, const farm::v1::TaskId& task = {});

  // ---- owner.cc
  void On(OwnerSays event);
  void TakeLimits(const farm::v1::WorkerLimits& limits_of_farm);
  bool Lent(const Device& device) const;
  // Whether the limits leave no room for the group.
  bool IsOver(const Group& group) const;

  // ---- devices.cc
  void On(Tick event);
  void On(const Prepared& event);
  void On(const PrepareFailed& event);
  void On(const FollowFailed& event);
  void On(MemoryMeasured event);
  void On(StepReached event);
  void On(FrameStored event);
  void On(const BankStepStored& event);
  void On(TextStored event);
  void On(PagesStored event);
  void On(RunEnded event);
  void On(const RunFailed& event);
  void On(EngineReady event);
  void On(const EngineEnded& event);
  // Whether memory suffices for the group; reports it where not.
  bool CheckMemory(const Device& device, Group* group);
  void RunNext(Device* device);
  // Whether the engine may be given one more run: of pages, or of what draws.
  bool HasRoom(const Device& device, bool page) const;
  void StartSlice(Device* device, Group* group);
  // Whether the engine was silent for too long; reports the run's tasks then.
  bool IsHung(const Running& running);
  // The run's end: those behind it count from now.
  void EndRun(Device* device, uint64_t run);
  // Stops the engine. What it had and nobody reported is started again.
  void StopRunning(Device* device);
  void RestartRuns(Device* device);
  // What a task of the group took tells of the device.
  void LearnSpeed(Device* device, const Group& group, uint64_t render_ms);
  // The run of that number, or null; notes that its engine lives, and the phase that begins (none: the same goes on).
  Running* Alive(uint64_t run, std::optional<Phase> next);
  // Forgets groups that have nothing left, and stops engines that run for nobody.
  void Sweep();
  void Advance();  // after every event: sweep, run what can run, send what can be sent
  Group* FindGroup(const TokenKey& token);
  std::vector<size_t> Unsettled(const Group& group, const std::vector<size_t>& among) const;
  bool Runs(const Group& group) const;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_CORE_SESSION_PARTS_H_
