// A few threads that carry out what would block another: disk, uploads, downloads, encoding pictures.
#ifndef STORYFARM_PIPELINE_BASE_TASK_THREADS_H_
#define STORYFARM_PIPELINE_BASE_TASK_THREADS_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "pipeline/base/thread_role.h"

namespace storyfarm::base {

class TaskThreads {
 public:
  // One thread carries tasks out in the order in which they came; several start them in that order.
  // `role`: what the threads are for.
  explicit TaskThreads(size_t threads, ThreadRole role = ThreadRole::kTransfer);
  // Stops without carrying out what still waits.
  ~TaskThreads();

  // Thread-safe. After Stop the task is dropped.
  void Post(std::function<void()> task);
  // Ends the threads: after what waits was carried out (`finish`), or after what runs now. Safe to call twice.
  void Stop(bool finish);

 private:
  void Main(ThreadRole role);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_TASK_THREADS_H_
