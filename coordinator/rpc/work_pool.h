// A few threads for what takes long (parsing a story, reading a model's headers, writing out metadata), so that neither
// gRPC's threads nor the loop wait for it. Behind server.h.
#ifndef STORYFARM_COORDINATOR_RPC_WORK_POOL_H_
#define STORYFARM_COORDINATOR_RPC_WORK_POOL_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"

namespace storyfarm::coordinator {

// Two stories at once: the loop, the store and the blobs want the other cores.
inline constexpr size_t kPoolThreads = 2;
// Each may hold a story of 4 MiB.
inline constexpr size_t kPoolQueue = 64;

class WorkPool {
 public:
  // Called with OK on a thread of the pool, or else, at once or when the pool stops, with why it is not done.
  using Work = std::function<void(const absl::Status&)>;

  explicit WorkPool(size_t threads = kPoolThreads, size_t queue = kPoolQueue);
  ~WorkPool() { Stop(); }

  // Any thread. Calls `work` exactly once; at once where the queue is full (Busy) or the pool has stopped
  // (UNAVAILABLE).
  void Post(Work work);
  // Refuses what waits, ends what runs. Not from `work`.
  void Stop();

 private:
  void Main();

  const size_t limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::deque<Work> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_WORK_POOL_H_
