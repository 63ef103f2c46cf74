#include "pipeline/base/task_threads.h"

#include <utility>

namespace storyfarm::base {

TaskThreads::TaskThreads(size_t threads, ThreadRole role) {
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this, role] { Main(role); });
}

TaskThreads::~TaskThreads() { Stop(/*finish=*/false); }

void TaskThreads::Post(std::function<void()> task) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
}

void TaskThreads::Stop(bool finish) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    if (!finish) tasks_.clear();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void TaskThreads::Main(ThreadRole role) {
  TakeRole(role);
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}

}  // namespace storyfarm::base
