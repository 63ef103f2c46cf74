#include "coordinator/web/elastic_pool.h"

#include <chrono>
#include <utility>

namespace storyfarm::coordinator {
namespace {

// Longer than a browser keeps a connection for its next request.
constexpr std::chrono::seconds kIdle{30};

}  // namespace

ElasticPool::Taken ElasticPool::enqueue(std::function<void()> task) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) return Taken(false);
  JoinEnded();
  tasks_.push_back(std::move(task));
  if (idle_ < tasks_.size() && threads_.size() < most_threads_) {
    const auto self = threads_.emplace(threads_.end());
    *self = std::thread([this, self] { Main(self); });
  }
  changed_.notify_one();
  return Taken(true);
}

void ElasticPool::Main(std::list<std::thread>::iterator self) {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    ++idle_;
    const bool woken = changed_.wait_for(lock, kIdle, [this] { return stopping_ || !tasks_.empty(); });
    --idle_;
    if (tasks_.empty() && (stopping_ || !woken)) break;
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
  // While stopping, shutdown joins it where it stands.
  if (!stopping_) ended_.splice(ended_.end(), threads_, self);
}

void ElasticPool::JoinEnded() {
  for (; !ended_.empty(); ended_.pop_front()) ended_.front().join();
}

void ElasticPool::shutdown() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  // Nobody adds to either list any more.
  for (std::list<std::thread>* threads : {&threads_, &ended_}) {
    for (; !threads->empty(); threads->pop_front()) threads->front().join();
  }
}

}  // namespace storyfarm::coordinator
