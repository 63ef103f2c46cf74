// What the simulated programs share: time, network, the store's disk, the judge, and what is counted.
#ifndef STORYFARM_TESTS_SIM_WORLD_H_
#define STORYFARM_TESTS_SIM_WORLD_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/farm.h"
#include "coordinator/core/limits.h"
#include "coordinator/rpc/shared_specs.h"
#include "coordinator/store/memory_store.h"
#include "tests/sim/dice.h"
#include "tests/sim/judge.h"
#include "tests/sim/mutant.h"
#include "tests/sim/network.h"
#include "tests/sim/sim.h"
#include "tests/sim/timeline.h"
#include "tests/sim/workload.h"
#include "worker/core/limits.h"

namespace storyfarm::sim {

// Two machines may run a coordinator; the workers know both addresses.
inline constexpr uint32_t kHosts = 2;

// Times are a third of the product's, so that more happens in a simulated minute; their proportions are the same.
coordinator::Limits FarmLimits(Mutant mutant);
worker::Limits WorkerLimits(Mutant mutant);

// What befalls the store's next writes.
struct StoreTrouble {
  uint32_t lose_request = 0;
  uint32_t lose_answer = 0;
  uint32_t refuse = 0;
  int64_t slow_ms = 0;  // the next one
};

struct World {
  explicit World(const Options& options);

  const Options options;
  const coordinator::Limits limits;
  const worker::Limits worker_limits;
  Timeline time;
  SimPlanner planner;
  std::set<std::string> blobs;  // digests that the coordinator's blob folder holds durably
  Judge judge;
  Network network;
  StoreTrouble trouble;
  std::shared_ptr<coordinator::MemoryDisk> disk = std::make_shared<coordinator::MemoryDisk>();
  coordinator::SharedSpecs specs;  // of the coordinators' folds; the truth keeps its own
  // Everything that the store ever took, folded without a snapshot.
  std::unique_ptr<coordinator::Farm> truth;
  uint64_t head = 0;                           // last batch in the store
  std::array<bool, kHosts> serving{};          // whether a coordinator that leads answers at this address
  std::array<int64_t, kHosts> store_cut_ms{};  // until when it can't reach the store
  int64_t disk_low_ms = 0;                     // until when the disk of the blobs is nearly full
  uint32_t newest = 0;                         // host whose coordinator took the store over last
  Counts counts;
  std::vector<std::string> trace;

  bool Is(Mutant mutant) const { return options.mutant == mutant; }

  // One write of the store under the trouble that there is; the judge hears of what it then holds.
  coordinator::AppendResult Append(coordinator::MemoryStore& store, const farm::v1::RecordBatch& batch);
  // Arms the trouble for one other write.
  void TroubleNextWrite();

  // A line of the trace; `line` is called only where there is one.
  template <typename Line>
  void Trace(Line line) {
    if (options.trace) AddTrace(line());
  }

 private:
  coordinator::MemoryDisk::Accident NextAccident();
  void AddTrace(const std::string& line);
};

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_WORLD_H_
