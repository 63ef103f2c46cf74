#include "worker/agent/stall_watch.h"

#include <chrono>
#include <utility>

namespace storyfarm::worker {

StallWatch::Watched::Watched(StallWatch& watch, std::function<void()> end)
    : watch_(watch), end_(std::move(end)), moved_(std::chrono::steady_clock::now()) {
  const std::lock_guard<std::mutex> lock(watch_.mutex_);
  watch_.calls_.insert(this);
}

StallWatch::Watched::~Watched() {
  const std::lock_guard<std::mutex> lock(watch_.mutex_);
  watch_.calls_.erase(this);
}

void StallWatch::Watched::Moved() {
  const std::lock_guard<std::mutex> lock(watch_.mutex_);
  moved_ = std::chrono::steady_clock::now();
}

StallWatch::StallWatch(absl::Duration stall)
    : stall_(absl::ToInt64Milliseconds(stall)), thread_([this] { Main(); }) {}

StallWatch::~StallWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    leaving_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void StallWatch::Main() {
  std::unique_lock<std::mutex> lock(mutex_);
  // A quarter late at most.
  while (!changed_.wait_for(lock, stall_ / 4, [this] { return leaving_; })) {
    const auto now = std::chrono::steady_clock::now();
    for (Watched* call : calls_) {
      if (call->ended_ || now - call->moved_ < stall_) continue;
      call->ended_ = true;
      call->end_();
    }
  }
}

}  // namespace storyfarm::worker
