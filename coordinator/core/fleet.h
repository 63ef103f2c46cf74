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

#include "coordinator/core/limits.h"
#include "coordinator/core/planner.h"
#include "coordinator/core/token.h"
#include "farm/v1/device.pb.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/work.pb.h"

namespace storyfarm::coordinator {

// What a device said last about the group that it runs.
struct PassProgress {
  Token token;
  farm::v1::TaskId task;
  uint32_t first_step = 0;
  int64_t first_step_ms = 0;
  uint32_t step = 0;
  uint32_t steps = 0;
};

struct Device {
  farm::v1::DeviceReport report;  // free_bytes as of the last heartbeat, the engine's own memory counted as free
  farm::v1::DeviceMemory memory;
  std::string plan_key;                    // what plans depend on of all this
  std::string warm_model;                  // digest of the model that its engine last worked with
  std::map<std::string, double> slowness;  // by model digest: measured seconds over predicted ones, smoothed
  PassProgress progress;
  uint32_t frames_done = 0;  // in this process's time
  uint32_t faults_in_a_row = 0;
  int64_t not_before_ms = 0;  // gets nothing until then
  std::string last_fault;

  // After report or memory changed.
  void UpdatePlanKey();
};

struct Node {
  std::string id;
  std::string name;
  std::string software_version;
  uint64_t session = 0;  // 0: not connected
  int64_t last_heard_ms = 0;
  bool leaving = false;
  std::map<uint32_t, Device> devices;  // by DeviceReport.index
  std::set<std::string> cached;        // digests of blobs in its cache, as far as known

  uint64_t MissingBytes(const farm::v1::ModelManifest& model) const;
  uint64_t MissingBytes(const farm::v1::Bank& bank) const;
  void NowCached(const farm::v1::ModelManifest& model, const Limits& limits);
  void NowCached(const farm::v1::Bank& bank, const Limits& limits);
};

// How long a grant is believed alive, and what is expected of it.
struct Lease {
  int64_t deadline_ms = 0;
  int64_t last_event_ms = 0;        // granted, or the last of its tasks finished
  double planned_task_seconds = 0;  // as the plan predicts, a task; 0: not known
  double task_seconds = 0;          // as this device has shown
  uint32_t batch = 1;
  int64_t trim_again_ms = 0;   // not asked for frames before
  std::set<uint32_t> started;  // tasks that the worker called started
};

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
  std::map<Token, Lease> leases;      // one for each live grant
  std::map<std::string, Pace> paces;  // by job
  PlanCache plans;

  // The node whose current session this is, or null.
  Node* OfSession(uint64_t session);
  Device* FindDevice(const std::string& node_id, uint32_t index);
  // Forgets nodes that left longest ago, beyond the limit.
  void Prune(size_t most_nodes);
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_FLEET_H_
