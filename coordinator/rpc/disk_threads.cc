#include "coordinator/rpc/disk_threads.h"

#include <utility>

namespace storyfarm::coordinator {

DiskThreads::DiskThreads(int count) {
  for (int i = 0; i < count; ++i) threads_.emplace_back([this] { Loop(); });
}

DiskThreads::~DiskThreads() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void DiskThreads::Do(std::function<void()> work) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(work));
  }
  changed_.notify_one();
}

void DiskThreads::Loop() {
  for (;;) {
    std::function<void()> work;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work();
  }
}

}  // namespace storyfarm::coordinator
