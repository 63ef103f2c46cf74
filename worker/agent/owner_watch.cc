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
  return day * plan::kMinutesADay + local.tm_hour * 60 + local.tm_min;
}

OwnerWatch::OwnerWatch(OwnerRules rules, OwnerWatchParts parts) : rules_(std::move(rules)), parts_(std::move(parts)) {
  if (!rules_.any()) return;
  first_ = Ask(farm_rules_);
  thread_ = std::thread([this] { Main(); });
}

void OwnerWatch::SetFarmRules(uint64_t number, OwnerRules rules) {
  const std::lock_guard<std::mutex> lock(mutex_);
  farm_rules_ = std::move(rules);
  number_ = number;
  changed_.notify_all();
  if (!thread_.joinable()) thread_ = std::thread([this] { Main(); });
}

OwnerWatch::~OwnerWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    leaving_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Rest OwnerWatch::Ask(const OwnerRules& farm_rules) {
  Surroundings surroundings;
  surroundings.minute_of_week = parts_.minute_of_week();
  if (rules_.mains_only || farm_rules.mains_only) surroundings.on_mains = parts_.machine->OnMains();
  if (rules_.idle_minutes > 0 || farm_rules.idle_minutes > 0) surroundings.idle_s = parts_.machine->IdleSeconds();
  if (rules_.cool_only) surroundings.too_hot = parts_.machine->TooHot();
  const Rest own = RestBy(rules_, surroundings), farms = RestBy(farm_rules, surroundings);
  // Of the two the one that lets nothing finish.
  return own.why.empty() || (own.finish && !farms.why.empty()) ? (farms.why.empty() ? own : farms) : own;
}

void OwnerWatch::Main() {
  Rest told = first_;
  uint64_t told_number = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait_for(lock, std::chrono::milliseconds(parts_.every_ms),
                      [&] { return leaving_ || number_ != told_number; });
    if (leaving_) return;
    const OwnerRules farm_rules = farm_rules_;
    const uint64_t number = number_;
    lock.unlock();
    Rest now = Ask(farm_rules);
    if (now != told || number != told_number) {
      told = now;
      told_number = number;
      parts_.events->Push(OwnerSays{.resting = std::move(now.why), .finish = now.finish, .limits = number});
    }
    lock.lock();
  }
}

}  // namespace storyfarm::worker
