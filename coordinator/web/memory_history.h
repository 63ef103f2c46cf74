// Memory of every device over the last hour, for the page's curves. Filled from what nodes report; forgotten with the
// process, and with a node that is no longer listed.
#ifndef STORYFARM_COORDINATOR_WEB_MEMORY_HISTORY_H_
#define STORYFARM_COORDINATOR_WEB_MEMORY_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "farm/v1/client.pb.h"

namespace storyfarm::coordinator {

inline constexpr int64_t kSampleMs = 10'000;  // a curve as wide as a window has fewer points
inline constexpr size_t kSamples = 360;       // an hour
inline constexpr size_t kSampledDevices = 1'000;  // 9 MB in all; a farm of more is watched with Prometheus

// Any thread.
class MemoryHistory {
 public:
  // Takes one sample of each device, where the last one is old enough.
  void Add(uint64_t unix_ms, const farm::v1::ListNodesResponse& nodes);

  // {"sample_ms": N, "devices": [{"index": 0, "samples": [[unix seconds, farm, others, free, planned], ...]}]}, oldest
  // first, memory in MiB. No devices where the node is not known.
  std::string Json(const std::string& node_id) const;

 private:
  struct Sample {
    uint32_t unix_s = 0;
    uint32_t farm_mib = 0;
    uint32_t others_mib = 0;
    uint32_t free_mib = 0;
    uint32_t planned_mib = 0;
  };
  mutable std::mutex mutex_;
  uint64_t last_unix_ms_ = 0;
  std::map<std::pair<std::string, uint32_t>, std::deque<Sample>> devices_;  // by node and index
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_MEMORY_HISTORY_H_
