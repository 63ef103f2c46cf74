#include "worker/engine/bank_feed.h"

#include <algorithm>

#include "absl/status/status.h"

namespace storyfarm::engine {

void BankFeed::Put(uint64_t run, uint32_t character, uint32_t step, const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (run <= ended_) return;
  paths_[{run, character, step}] = path;
  changed_.notify_all();
}

absl::StatusOr<std::string> BankFeed::Wait(uint64_t run, uint32_t character, uint32_t step) {
  std::unique_lock<std::mutex> lock(mutex_);
  const std::tuple<uint64_t, uint32_t, uint32_t> key(run, character, step);
  changed_.wait(lock, [&] { return run <= ended_ || paths_.count(key) > 0; });
  const auto path = paths_.find(key);
  if (path == paths_.end()) return absl::CancelledError("the run has ended");
  return path->second;
}

void BankFeed::End(uint64_t run) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ended_ = std::max(ended_, run);
  paths_.erase(paths_.begin(), paths_.upper_bound({run, UINT32_MAX, UINT32_MAX}));
  changed_.notify_all();
}

}  // namespace storyfarm::engine
