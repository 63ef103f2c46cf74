// What a person and a machine notice of the load: how long calls take, and what comes back when there are too many.
#ifndef STORYFARM_TOOLS_BENCH_FARM_LOAD_PROBES_H_
#define STORYFARM_TOOLS_BENCH_FARM_LOAD_PROBES_H_

#include <atomic>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/bench/farm_load/farm_process.h"
#include "tools/bench/farm_load/load.h"

namespace storyfarm::bench {

struct ProbeResults {
  // Nothing answers a heartbeat. So each is followed by a result that nobody waits for: a session's messages are heard
  // one after the other, and the answer (STALE) shows that the heartbeat was heard. An upper bound.
  Latencies heartbeat;
  Latencies status;  // GetJob of a job that works
  Latencies submit;  // of a story of a dozen panels
  std::atomic<int> failed = 0;
};

// Asks, from threads of its own, until it is gone.
class Probes {
 public:
  Probes(const FarmProcess& farm, ProbeResults* results);
  ~Probes();

 private:
  void Heartbeats();
  void Statuses();
  void Submits();

  const FarmProcess& farm_;
  ProbeResults* const results_;
  std::atomic<bool> stopping_ = false;
  std::vector<std::thread> threads_;
};

// What became of calls that came all at once.
struct OverloadResults {
  int calls = 0;
  int served = 0;
  int refused = 0;      // RESOURCE_EXHAUSTED with a time to try again
  int unexplained = 0;  // anything else
  double seconds = 0;
};
// Half of them GetJob, half Submit.
OverloadResults Overload(const FarmProcess& farm, int calls);

}  // namespace storyfarm::bench

#endif  // STORYFARM_TOOLS_BENCH_FARM_LOAD_PROBES_H_
