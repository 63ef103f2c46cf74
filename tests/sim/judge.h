// The judge: hears of everything that happens at the seams of the simulated programs and holds it against the rules. It
// shares no code with the core but the messages.
#ifndef STORYFARM_TESTS_SIM_JUDGE_H_
#define STORYFARM_TESTS_SIM_JUDGE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "coordinator/core/farm.h"
#include "farm/v1/record.pb.h"
#include "farm/v1/session.pb.h"
#include "tests/sim/ledger.h"
#include "tests/sim/rule.h"
#include "tests/sim/timeline.h"
#include "worker/core/session.h"

namespace storyfarm::sim {

// What the judge needs to know of one life of a coordinator.
struct Belief {
  Ledger ledger;                           // of what it has decided, durable or not
  std::map<Token, int64_t> news_ms;        // by live grant: when a current stream last told of it, on its own clock
  // By node: what it listed last as held, and what it was granted or named since, with when it was granted. Every word
  // of its current stream is news of these.
  std::map<std::string, std::map<Token, int64_t>> spoken_for;
  std::map<std::string, uint64_t> newest;  // by node: session of the newest stream that was not refused
  uint64_t before_hello = 0;               // what it was before the Hello that is being heard
  bool held = false;                       // the disk of its blobs is nearly full, and it knows
};

class Judge {
 public:
  // `blobs`: what the coordinator's blob store holds durably.
  Judge(const Timeline* time, const std::set<std::string>* blobs, int64_t lease_ms, size_t groups_a_device)
      : time_(time), blobs_(blobs), lease_ms_(lease_ms), groups_a_device_(groups_a_device) {}

  // Of a node's devices: what plans are held against.
  void KnowDevice(const std::string& node_id, uint32_t device, farm::v1::Backend backend);

  // ---- The store: records that it holds now, each once, in order.
  void Durable(const farm::v1::RecordBatch& batch);
  const Ledger& durable() const { return durable_; }

  // ---- A coordinator.
  // It begins a life; `farm` has replayed the log and not yet taken over.
  Belief Begins(const coordinator::Farm& farm, int64_t now_ms);
  // Before a Step with something that a worker's stream brought; `session` as it came.
  void Hears(Belief& belief, int64_t now_ms, uint64_t session, const std::string& node_id,
             const farm::v1::WorkerMessage& message);
  // After each Step. `session`: of a worker's message, 0: something else; `ticked` after a Tick.
  void Decides(Belief& belief, int64_t now_ms, const coordinator::Decisions& decisions, uint64_t session,
               const std::string& node_id, bool ticked);
  void Knows(const coordinator::Farm& farm);
  void Releases(const farm::v1::CoordinatorMessage& message);
  void Replies(const std::string& key, const coordinator::Reply& reply);
  // Somebody outside hears of a job's end.
  void Told(const std::string& job_id);
  // At the end: of each end that there was, somebody has heard.
  void CheckTold();

  // ---- A worker.
  // `stored` and `started`: whether the result of a task lies on its disk, whether its engine has begun it.
  using OnDisk = std::function<bool(const farm::v1::FencingToken&, const farm::v1::TaskId&)>;
  void WorkerSends(const farm::v1::WorkerMessage& message, const OnDisk& stored, const OnDisk& started);
  // `lost`: one of its blobs is gone for good.
  void WorkerClears(const farm::v1::FencingToken& token, const farm::v1::TaskId& task, bool lost);
  // `free_bytes`: truly free for it when its memory was measured.
  void WorkerRuns(const std::string& node_id, bool already_running, uint64_t planned_bytes, uint64_t free_bytes);
  void WorkerHolds(const std::string& node_id, uint32_t device, size_t groups);
  void Queue(const char* name, size_t size, size_t most);

  void Complain(Rule rule, const std::string& what);
  const std::optional<Violation>& violation() const { return violation_; }
  // Jobs whose submitter was told that they were accepted.
  const std::set<std::string>& promised() const { return promised_; }

 private:
  void CheckFact(const Belief& belief, const farm::v1::Record& record);
  void CheckVerdict(const farm::v1::ResultVerdict& verdict);
  void CheckLeases(const Belief& belief, int64_t now_ms);

  const Timeline* const time_;
  const std::set<std::string>* const blobs_;
  const int64_t lease_ms_;
  const size_t groups_a_device_;
  std::optional<Violation> violation_;  // the first
  Ledger durable_;
  std::set<std::string> promised_;
  std::set<std::string> told_;
  std::map<std::string, std::string> job_of_key_;
  std::map<std::pair<std::string, uint32_t>, farm::v1::Backend> devices_;
};

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_JUDGE_H_
