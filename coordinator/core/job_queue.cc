#include "coordinator/core/job_queue.h"

#include <algorithm>

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_PAGE;

// The sums are made anew when an eighth of the jobs changed: rarely enough to cost nothing, often enough to be right.
constexpr size_t kStaleShare = 8;

}  // namespace

double JobQueue::FrameWork(const Job& job) {
  const auto& settings = job.head().story().settings();
  return std::max(1.0, static_cast<double>(settings.width()) * settings.height() * settings.steps());
}

double JobQueue::IdentityFrames(const Job& job, uint32_t identity) {
  const farm::v1::IdentityTask& task = job.head().identities(static_cast<int>(identity));
  return std::max(1, task.panels_size() + task.hidden_prompts_size());
}

double JobQueue::ReadyWork(const Job& job) {
  double frames = job.count(TASK_FRAME, farm::v1::TASK_READY);
  const uint32_t identities = job.count(TASK_IDENTITY, farm::v1::TASK_READY);
  if (identities > 0) frames += identities * IdentityFrames(job, 0);
  return frames * FrameWork(job);
}

void JobQueue::Update(const Job& job, bool live, int64_t held_rate) {
  const auto known = entries_.find(job.ordinal());
  const bool in = live && !job.paused && !job.ready_units().empty();
  const Turn turn{-static_cast<int32_t>(job.priority), held_rate, job.ordinal()};
  if (known != entries_.end()) {
    if (!in || known->second.turn != turn) turns_.erase(known->second.turn);
    if (!in) entries_.erase(known);
  }
  if (in) {
    turns_.insert(turn);
    entries_[job.ordinal()] = {turn, ReadyWork(job)};
  }
  ++changes_;
}

void JobQueue::Sum() {
  changes_ = 0;
  levels_.clear();
  for (const auto& [ordinal, entry] : entries_) levels_[entry.turn.rank].works.push_back(entry.work);
  for (auto& [rank, level] : levels_) {
    std::sort(level.works.begin(), level.works.end());
    level.sums.assign(1, 0);
    for (const double work : level.works) level.sums.push_back(level.sums.back() + work);
  }
}

double JobQueue::ExactBacklog(const Job& job) const {
  const double own = ReadyWork(job);
  const int32_t rank = -static_cast<int32_t>(job.priority);
  double work = 0;
  for (const auto& [ordinal, entry] : entries_) {
    if (entry.turn.rank <= rank) work += entry.turn.rank < rank ? entry.work : std::min(entry.work, own);
  }
  return std::max(own, work) / FrameWork(job);
}

double JobQueue::Backlog(const Job& job) {
  if (changes_ > entries_.size() / kStaleShare) Sum();
  const double own = ReadyWork(job);
  double work = 0;
  const int32_t rank = -static_cast<int32_t>(job.priority);
  for (const auto& [other, level] : levels_) {
    if (other > rank) break;
    const auto more = std::upper_bound(level.works.begin(), level.works.end(), own) - level.works.begin();
    work += other < rank ? level.sums.back()
                         : level.sums[static_cast<size_t>(more)] +
                               own * static_cast<double>(level.works.end() - level.works.begin() - more);
  }
  return std::max(own, work) / FrameWork(job);
}

}  // namespace storyfarm::coordinator
