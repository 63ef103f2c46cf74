// The soft half of the core: who is connected, what they hold alive, how fast they are. Never stored; rebuilt from the
// workers' Hellos.
#ifndef STORYFARM_COORDINATOR_CORE_FLEET_H_
#define STORYFARM_COORDINATOR_CORE_FLEET_H_

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "coordinator/core/job.h"
#include "coordinator/core/limits.h"
#include "coordinator/core/planner.h"
#include "coordinator/core/token.h"
#include "farm/v1/device.pb.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/limits.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"
#include "farm/v1/work.pb.h"
#include "pipeline/plan/model_use.h"

namespace storyfarm::coordinator {

// Frames finished in the last minute, in buckets of five seconds.
class Pace {
 public:
  void Add(int64_t now_ms);
  // Frames a minute; 0 where too few finished to tell.
  double FramesPerMinute(int64_t now_ms) const;

 private:
  static constexpr int64_t kBucketMs = 5000;
  static constexpr int64_t kBuckets = 12;
  std::array<int64_t, kBuckets> bucket_{};  // number of the bucket that the cell holds
  std::array<uint32_t, kBuckets> frames_{};
  int64_t first_ms_ = -1;
};

// What a device said last about the group that it runs.
struct PassProgress {
  Token token;
  farm::v1::TaskId task;
  uint32_t first_step = 0;
  int64_t first_step_ms = 0;
  uint32_t step = 0;
  uint32_t steps = 0;
};

// Measured seconds of a model's tasks over predicted ones, smoothed.
struct Slowness {
  double measured = 1;
  double told = 1;  // as rankings know it: renewed when it moved enough to matter
};

struct Device {
  farm::v1::DeviceReport reported;  // as the worker said it
  // That within the node's limits; free_bytes as of the last heartbeat, the engine's own memory counted as free.
  farm::v1::DeviceReport report;
  bool lent = true;  // the node's limits leave it to the farm
  farm::v1::DeviceMemory memory;
  std::string plan_key;                      // what plans depend on of all this
  std::string warm_model;                    // digest of the model that its engine last worked with
  std::map<std::string, Slowness> slowness;  // by model digest
  PassProgress progress;
  uint32_t frames_done = 0;  // in this process's time
  Pace pace;
  uint32_t faults_in_a_row = 0;
  int64_t not_before_ms = 0;  // gets nothing until then
  std::string last_fault;
  int64_t last_event_ms = 0;  // when one of its tasks last ended, in whatever way
  uint64_t version = 0;       // of what its offers depend on; no two states of any device have the same
  bool seated = false;        // in the pool, at `seat`
  uint32_t seat = 0;

  // What it says of itself now. What was learned of it stays: a new stream alone makes it no faster and no sounder.
  void TakeReport(const farm::v1::DeviceReport& said);
  // Null: none.
  void Limit(const farm::v1::WorkerLimits* limits);
  // After report or memory changed; true if plans may differ now.
  bool UpdatePlanKey();
  // What a task of the model took, over what its plan predicted. True where it moved enough to rank the device anew.
  bool LearnSlowness(const std::string& model_digest, double seen);
};

struct Node {
  std::string id;
  std::string name;
  std::string software_version;
  uint64_t session = 0;  // 0: not connected
  int64_t last_heard_ms = 0;
  bool leaving = false;
  std::string resting;                 // Heartbeat.resting
  uint64_t process = 0;                // Hello.process
  std::map<uint32_t, Device> devices;  // by DeviceReport.index
  std::set<std::string> cached;        // digests of blobs in its cache, as far as known
  std::string blob_address;            // where others read its cache, as Peer.address; empty: nowhere
  // Joined by code: sockets of the farm's machine mean nothing there, and without a certificate nobody reads there.
  bool elsewhere = false;
  std::string certificate_host;  // where it is elsewhere

  uint64_t MissingBytes(const farm::v1::ModelManifest& model, plan::ModelUse use) const;
  uint64_t MissingBytes(const farm::v1::Bank& bank) const;
  // True where some of it was not known to be there.
  bool NowCached(const farm::v1::ModelManifest& model, plan::ModelUse use, const Limits& limits);
  void NowCached(const farm::v1::Bank& bank, const Limits& limits);
  void NowCached(const farm::v1::BlobRef& blob, const Limits& limits);
};

// How long a grant is believed alive, and what is expected of it.
struct Lease {
  int64_t deadline_ms = 0;
  // Every word of its node's stream renews it: it was granted on that stream, and what the node listed last as held
  // names it, or was sent before it can have come.
  bool vouched = false;
  int64_t granted_ms = 0;
  int64_t last_event_ms = 0;        // granted, or the last of its tasks finished
  double planned_task_seconds = 0;  // as the plan predicts, a task; 0: not known
  double task_seconds = 0;          // as this device has shown
  double setup_seconds = 0;         // expected before the first step, until something was heard of it
  uint32_t batch = 1;
  plan::LearnedNeed counted_in;  // by its plan; zeros also where an earlier process granted it
  int64_t trim_again_ms = 0;     // not asked for frames before
  std::set<uint32_t> started;    // tasks that the worker called started
  double stealable_s = 0;        // its key in Fleet::stealable; 0: not in it
  bool armed = false;            // in Fleet::deadlines
  uint64_t job_ordinal = 0;
  std::vector<farm::v1::BlobRef> bank_steps;  // of an identity: those that its worker has told of so far
  int64_t work_rate = 0;  // counted in Fleet::held_rates: thousandths of JobQueue's work a second
};

// A group that a device holds and when it will be done, on the monotonic clock.
struct Holding {
  Token token;
  double end_s = 0;
  bool running = false;
};

// Why a group went where it went: what was predicted when it was granted, in seconds from then.
struct Placement {
  uint64_t unix_ms = 0;
  uint32_t size = 0;      // tasks
  double free_s = 0;      // until the device has done what it held
  double setup_s = 0;     // fetching and loading
  double task_s = 0;      // each task
  double finish_s = 0;    // of the first task
  double level_s = 0;     // of all that was waiting, spread best
  double held_s = 0;      // above 0: the unit had waited so long that it went to a slower device
  std::string next_node;  // the next best with room; empty: there was none
  double next_finish_s = 0;
  uint32_t jobs = 0;    // that had something ready
  uint32_t groups = 0;  // that the job held already
  farm::v1::MemoryPlan plan;  // not of pages, which have none
};

// What the scheduler remembers of a unit from one round to the next.
struct UnitMemory {
  double level_s = 0;  // as computed at level_ms, when the pool had seen level_changes, for level_tasks; 0: never
  int64_t level_ms = 0;
  uint64_t level_changes = 0;
  double level_tasks = 0;
};

// Answers of the planner by what they depend on: asked thousands of times a second with few different questions.
class PlanCache {
 public:
  explicit PlanCache(const Planner* planner) : planner_(planner) {}
  const plan::PlanOrRefusal& Plan(const farm::v1::ModelManifest& model, const Device& device,
                                  const farm::v1::GroupShape& shape, const plan::LearnedNeed& learned);

 private:
  // Bounds the memory at about 20 MB; a farm of one hundred kinds of devices and jobs stays below.
  static constexpr size_t kMostPlans = 20000;
  const Planner* planner_;
  std::map<std::tuple<std::string, std::string, std::string, uint64_t, uint64_t>, plan::PlanOrRefusal> plans_;
};

struct Fleet {
  explicit Fleet(const Planner* planner) : plans(planner) {}

  std::map<std::string, Node> nodes;  // by id; those that left are kept for a while, for people
  std::map<uint64_t, std::string> node_of_session;
  std::map<Token, Lease> leases;                  // one for each live grant
  std::set<std::pair<int64_t, Token>> deadlines;  // when to look at a lease; it may have been renewed since
  std::map<uint64_t, int64_t> held_rates;         // by job ordinal: of all its leases
  // Groups that have, or may have, frames that were not begun, by when they end. May hold some that are over.
  std::set<std::pair<double, Token>> stealable;
  std::set<Token> writers;  // identities whose bank grows: their leases have bank_steps
  std::map<Token, Placement> placements;                  // of the last grants
  std::map<std::pair<uint64_t, Unit>, UnitMemory> units;  // by job ordinal
  std::map<uint64_t, double> held_since_s;  // by job ordinal: since when it is held back though a device has room
  // Ids of connected nodes with a blob address: those of the farm's machine, and those elsewhere.
  std::array<std::set<std::string>, 2> serving;
  std::map<uint64_t, std::set<std::string>> bank_nodes;  // by job ordinal: nodes that have banks of it
  uint64_t last_version = 0;                             // the last Device::version drawn
  std::map<std::string, Pace> paces;                     // by job
  PlanCache plans;

  // The node whose current session this is, or null.
  Node* OfSession(uint64_t session);
  Device* FindDevice(const std::string& node_id, uint32_t index);
  void Renew(const Token& token, int64_t deadline_ms);
  void EndLease(const Token& token);
  // Tokens whose leases are over. Each is told once.
  std::vector<Token> TakeExpired(int64_t now_ms);
  // What the node's devices offer may differ from now on.
  void OffersChanged(Node& node);
  // Those among which this node may find peers.
  const std::set<std::string>& ServingBeside(const Node& node) const { return serving[node.elsewhere ? 1 : 0]; }
  const std::set<std::string>& ServingElsewhere() const { return serving[1]; }
  // As the node is now, or that nobody reads there any more.
  void Serves(const Node& node);
  void ServesNoMore(const std::string& node_id);
  void HasBanks(uint64_t job_ordinal, const std::string& node_id);
  // Nothing is remembered of a job that ended.
  void Forget(uint64_t job_ordinal, const std::string& job_id);
  // Forgets nodes that left longest ago, beyond the limit.
  void Prune(size_t most_nodes);
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_FLEET_H_
