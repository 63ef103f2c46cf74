// A few threads that do disk work for calls, in the order in which it was asked for.
#ifndef STORYFARM_COORDINATOR_RPC_DISK_THREADS_H_
#define STORYFARM_COORDINATOR_RPC_DISK_THREADS_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace storyfarm::coordinator {

class DiskThreads {
 public:
  explicit DiskThreads(int count);
  // Finishes what was asked for.
  ~DiskThreads();

  // Never blocks. The queue is bounded by its users: each call or stream has at most one piece of work in it.
  void Do(std::function<void()> work);

 private:
  void Loop();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_DISK_THREADS_H_
