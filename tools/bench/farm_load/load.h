// farm_load: what one coordinator bears. It starts the real storyfarm-coordinator with its private Redis
// (appendfsync always) in a temporary folder, submits stories, and connects simulated workers over real gRPC streams:
// each is the real worker/core session and outbox, around an engine that renders nothing.
//
//   main ─ CoordinatorProcess (farm_process.h) <── gRPC over its unix socket ──┬─ Fleet (fleet.h): SimWorker x N
//        ├─ SubmitStories                                                       │    └─ Uploader (uploader.h)
//        ├─ Probes (probes.h): heartbeats, status, submit, one after the other ─┤
//        ├─ Overload (probes.h): more calls at once than it takes ──────────────┘
//        └─ Report (report.h): a table or JSON, with machine and versions
//
// What is not real: a worker's outbox is not written to a disk (on a farm each machine has its own), and engines finish
// at once, or at the pace that --rate gives.
#ifndef STORYFARM_TOOLS_BENCH_FARM_LOAD_LOAD_H_
#define STORYFARM_TOOLS_BENCH_FARM_LOAD_LOAD_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace storyfarm::bench {

struct LoadOptions {
  int workers = 1000;
  int frames = 200'000;  // pending when the workers come
  int seconds = 20;      // measured, after a warm-up
  int warm_up_seconds = 3;
  int rate = 0;        // frames a second of all workers together; 0: engines finish at once
  bool blobs = false;  // each frame brings 256 KiB of its own
  int uploads = 32;    // blobs on their way at once
  bool json = false;
};

inline int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}
inline double NowSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Durations that were measured. Thread-safe.
class Latencies {
 public:
  void Add(double ms) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ms_.push_back(ms);
  }
  size_t count() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return ms_.size();
  }
  // Of `percent` of them it was this or less; 0 where there is none.
  double Percentile(double percent) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (ms_.empty()) return 0;
    std::vector<double> sorted = ms_;
    std::sort(sorted.begin(), sorted.end());
    return sorted[static_cast<size_t>(percent / 100 * static_cast<double>(sorted.size() - 1) + 0.5)];
  }
  void Clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ms_.clear();
  }

 private:
  mutable std::mutex mutex_;
  std::vector<double> ms_;
};

}  // namespace storyfarm::bench

#endif  // STORYFARM_TOOLS_BENCH_FARM_LOAD_LOAD_H_
