// The simulated workers and the clock that they share.
#ifndef STORYFARM_TOOLS_BENCH_FARM_LOAD_FLEET_H_
#define STORYFARM_TOOLS_BENCH_FARM_LOAD_FLEET_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "farm/v1/blob.pb.h"
#include "tools/bench/farm_load/farm_process.h"
#include "tools/bench/farm_load/load.h"
#include "tools/bench/farm_load/uploader.h"

namespace storyfarm::bench {

// What all workers count together.
struct Tally {
  std::atomic<int> welcomed = 0;
  std::atomic<int> broken = 0;       // streams that ended before Stop
  std::atomic<int64_t> granted = 0;  // frames
  std::atomic<int64_t> frames = 0;   // accepted, and cleared from the outbox
  std::atomic<int64_t> pages = 0;
  std::atomic<int64_t> stale = 0;
  std::atomic<int64_t> faults = 0;  // tasks reported as failed: none is meant to
  std::atomic<int64_t> failed_uploads = 0;
  Latencies finished_to_cleared;
};

// Calls what is due, in the order of its time, on one thread.
class Clock {
 public:
  Clock() : thread_([this] { Main(); }) {}
  ~Clock() { Stop(); }
  void At(int64_t ms, std::function<void()> what);
  void Stop();

 private:
  void Main();

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::multimap<int64_t, std::function<void()>> due_;
  std::thread thread_;
};

class SimWorker;

class Fleet {
 public:
  // `shared`: a blob that the coordinator holds, which stands for every picture (and, without --blobs, for latents).
  Fleet(const FarmProcess& farm, const LoadOptions& options, const farm::v1::BlobRef& shared);
  ~Fleet();

  // Connects all of them. DEADLINE_EXCEEDED where some are not welcomed within a minute.
  absl::Status Connect();
  Tally& tally() { return tally_; }
  // Ends the streams.
  void Stop();

 private:
  friend class SimWorker;
  void Tick();
  // That a worker takes for a frame; 0: none.
  int64_t FrameMs() const { return options_.rate == 0 ? 0 : int64_t{1000} * options_.workers / options_.rate; }

  const FarmProcess& farm_;
  const LoadOptions options_;
  const farm::v1::BlobRef shared_;
  Tally tally_;
  std::atomic<uint64_t> next_blob_ = 1;
  std::atomic<bool> stopping_ = false;
  std::vector<std::shared_ptr<SimWorker>> workers_;
  std::unique_ptr<Uploader> uploader_;
  std::unique_ptr<Clock> clock_;
};

}  // namespace storyfarm::bench

#endif  // STORYFARM_TOOLS_BENCH_FARM_LOAD_FLEET_H_
