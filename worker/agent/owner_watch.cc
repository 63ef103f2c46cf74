#include "worker/agent/owner_watch.h"

#include <chrono>
#include <ctime>
#include <utility>

#include "worker/core/session.h"

namespace storyfarm::worker {

int LocalMinuteOfWeek() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  const int day = (local.tm_wday + 6) % 7;  // tm_wday counts from Sunday
  return day * kMinutesADay + local.tm_hour * 60 + local.tm_min;
}

OwnerWatch::OwnerWatch(OwnerRules rules, OwnerWatchParts parts) : rules_(std::move(rules)), parts_(std::move(parts)) {
  if (!rules_.any()) return;
  first_ = Ask();
  thread_ = std::thread([this] { Main(); });
}

OwnerWatch::~OwnerWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    leaving_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Rest OwnerWatch::Ask() {
  Surroundings surroundings;
  surroundings.minute_of_week = parts_.minute_of_week();
  if (rules_.mains_only) surroundings.on_mains = parts_.machine->OnMains();
  if (rules_.idle_minutes > 0) surroundings.idle_s = parts_.machine->IdleSeconds();
  if (rules_.cool_only) surroundings.too_hot = parts_.machine->TooHot();
  return RestBy(rules_, surroundings);
}

void OwnerWatch::Main() {
  Rest told = first_;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!changed_.wait_for(lock, std::chrono::milliseconds(parts_.every_ms), [this] { return leaving_; })) {
    lock.unlock();
    Rest now = Ask();
    if (now != told) {
      told = now;
      parts_.events->Push(OwnerSays{std::move(now.why), now.finish});
    }
    lock.lock();
  }
}

}  // namespace storyfarm::worker
