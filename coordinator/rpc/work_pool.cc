#include "coordinator/rpc/work_pool.h"

#include <utility>

#include "coordinator/rpc/status.h"

namespace storyfarm::coordinator {

WorkPool::WorkPool(size_t threads, size_t queue) : limit_(queue) {
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { Main(); });
}

void WorkPool::Post(Work work) {
  absl::Status refusal;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) {
      refusal = absl::UnavailableError("The coordinator is going down; ask again when it is back.");
    } else if (queue_.size() >= limit_) {
      refusal = Busy("The coordinator has many stories and models to read just now. Ask again in a few seconds.", 2000);
    } else {
      queue_.push_back(std::move(work));
    }
  }
  if (!refusal.ok()) return work(refusal);
  changed_.notify_one();
}

void WorkPool::Stop() {
  std::deque<Work> refused;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    refused.swap(queue_);
  }
  changed_.notify_all();
  for (const Work& work : refused) {
    work(absl::UnavailableError("The coordinator is going down; ask again when it is back."));
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void WorkPool::Main() {
  for (;;) {
    Work work;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work(absl::OkStatus());
  }
}

}  // namespace storyfarm::coordinator
