// A simulated coordinator: the real Farm, the real MemoryStore, and between them what coordinator/rpc does with threads
// and gRPC, done with events: group commit, appends sent again, messages that wait for their records and for the
// store's word that no other coordinator took over since, snapshots from a second fold, the archive.
//
// Its appends take three events - begun, written, answered - so that it can die, freeze or be deposed between any two.
#ifndef STORYFARM_TESTS_SIM_COORDINATOR_H_
#define STORYFARM_TESTS_SIM_COORDINATOR_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/farm.h"
#include "coordinator/rpc/leader_watch.h"
#include "coordinator/store/memory_store.h"
#include "tests/sim/dice.h"
#include "tests/sim/judge.h"
#include "tests/sim/timeline.h"
#include "tests/sim/world.h"

namespace storyfarm::sim {

// Where an armed kill strikes.
enum class KillPoint : uint8_t { kNone, kBeforeAppend, kAfterAppend, kWhileSending };

class Coordinator : public Process {
 public:
  // `ended` is called after an armed kill; it should come back after `restart_ms`.
  Coordinator(World* world, uint32_t host, std::function<void(uint32_t host, int64_t restart_ms)> ended);

  // The process begins, and stands by until nobody leads.
  void Boot();
  bool leads() const { return world_.serving[host_]; }
  // Ends. `silently`: its connections are not closed.
  void Kill(bool silently);
  void ArmKill(KillPoint point, int64_t restart_ms);  // kNone: not any more
  void JumpClock(int64_t ms);

  void Hear(uint64_t stream, uint32_t node, farm::v1::WorkerMessage message);
  void StreamLost(uint64_t stream);
  // A client's request. `answer` is called once: with the reply, or with UNAVAILABLE where this life ends first.
  void Ask(const std::function<coordinator::Input(uint64_t request)>& make, const std::string& key,
           std::function<void(const coordinator::Reply&)> answer);

  // Whether all that it decided is durable and told.
  bool Level() const { return pending_.empty() && !in_flight_ && waiting_.empty(); }
  // Compares its State with the fold of the whole log. Call where Level().
  void CheckReplay();
  const coordinator::Farm& farm() const { return *farm_; }
  const Belief& belief() const { return belief_; }
  coordinator::Time Now() const;

 private:
  struct Waiting {
    uint64_t after_record = 0;
    std::function<void()> leave;
  };
  struct Asked {
    std::string key;
    std::function<void(const coordinator::Reply&)> answer;
  };

  void StandBy();
  void Lead(uint64_t after_epoch);
  // Another one leads, or the store was silent for too long: all that it holds in memory is thrown away.
  void Resign();
  bool MaySpeak() const;
  bool StoreCut() const { return world_.store_cut_ms[host_] > world_.time.now_ms(); }
  void BeatIfDue();
  void Disconnect(bool silently);
  void Load();
  absl::Status Replay(const farm::v1::RecordBatch& batch, bool last);
  void Tick();
  // One Step and what follows; `session` and `node_id` where a worker's stream brought the input.
  void Step(coordinator::Input input, uint64_t session = 0, const std::string& node_id = "");
  void Carry(coordinator::Decisions decisions);
  void Wait(uint64_t after_record, std::function<void()> leave);
  void Alter(std::vector<farm::v1::Record>& records);

  void BeginAppend();
  void Write(const std::shared_ptr<farm::v1::RecordBatch>& batch);
  void Answered(const std::shared_ptr<farm::v1::RecordBatch>& batch, int64_t asked_ms,
                coordinator::AppendOutcome outcome);
  void Release();
  void PutArchive(const std::string& job_id, const farm::v1::JobArchive& body);
  void SaveSnapshot();
  void TellEnd(const farm::v1::JobNotice& notice);
  void Die(int64_t restart_ms);

  World& world_;
  const uint32_t host_;
  const std::function<void(uint32_t, int64_t)> ended_;
  Dice dice_;

  std::optional<coordinator::LeaderWatch> watch_;
  std::unique_ptr<coordinator::MemoryStore> store_;
  std::unique_ptr<coordinator::Farm> farm_;
  std::unique_ptr<coordinator::Farm> shadow_;  // the second fold: durable records alone
  Belief belief_;
  std::map<uint64_t, std::string> node_of_;  // greeted streams
  std::map<uint64_t, Asked> asked_;
  uint64_t next_request_ = 1;

  std::deque<farm::v1::Record> pending_;
  bool in_flight_ = false;
  bool begin_soon_ = false;
  uint64_t sequence_ = 0;  // of the last batch known to be durable
  uint64_t durable_record_ = 0;
  uint64_t snapshot_record_ = 0;
  coordinator::AppendSign sign_;  // of the batch in flight
  int64_t led_ms_ = 0;            // when it led for certain, on its own clock
  bool beating_ = false;          // a sign of life is on its way
  int64_t unresolved_since_ms_ = -1;
  int64_t pause_ms_ = 0;
  std::deque<Waiting> waiting_;

  KillPoint kill_point_ = KillPoint::kNone;
  int64_t kill_restart_ms_ = 0;
  int64_t tick_due_ms_ = 0;
  int64_t leap_ms_ = 0;  // of its monotonic clock
  int64_t wall_ms_ = 0;  // its wall clock is wrong by so much
  uint64_t last_incarnation_ = 0;
};

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_COORDINATOR_H_
