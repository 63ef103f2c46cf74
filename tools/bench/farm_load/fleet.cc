#include "tools/bench/farm_load/fleet.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/bench/farm_load/sim_worker.h"
#include "worker/core/limits.h"

namespace storyfarm::bench {
namespace {

constexpr int64_t kConnectMs = 60'000;

}  // namespace

void Clock::At(int64_t ms, std::function<void()> what) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    due_.emplace(ms, std::move(what));
  }
  changed_.notify_one();
}

void Clock::Main() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    const int64_t now_ms = NowMs();
    if (due_.empty() || due_.begin()->first > now_ms) {
      const int64_t wait_ms = due_.empty() ? 1000 : due_.begin()->first - now_ms;
      changed_.wait_for(lock, std::chrono::milliseconds(wait_ms));
      continue;
    }
    const std::function<void()> what = std::move(due_.begin()->second);
    due_.erase(due_.begin());
    lock.unlock();
    what();
    lock.lock();
  }
}

void Clock::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

Fleet::Fleet(const FarmProcess& farm, const LoadOptions& options, const farm::v1::BlobRef& shared)
    : farm_(farm), options_(options), shared_(shared), clock_(std::make_unique<Clock>()) {
  if (options.blobs) uploader_ = std::make_unique<Uploader>(farm, options.uploads);
}

Fleet::~Fleet() { Stop(); }

absl::Status Fleet::Connect() {
  for (int i = 0; i < options_.workers; ++i) workers_.push_back(std::make_shared<SimWorker>(this, i));
  for (const auto& worker : workers_) worker->Start(farm_.ConnectAsWorker());
  clock_->At(NowMs() + worker::kTickMs, [this] { Tick(); });
  const int64_t deadline_ms = NowMs() + kConnectMs;
  while (tally_.welcomed < options_.workers) {
    if (NowMs() > deadline_ms || tally_.broken > 0) {
      return absl::DeadlineExceededError(absl::StrCat("Of ", options_.workers, " workers ", tally_.welcomed.load(),
                                                      " are connected and ", tally_.broken.load(), " were refused.\n",
                                                      farm_.LogEnd()));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return absl::OkStatus();
}

void Fleet::Tick() {
  for (const auto& worker : workers_) worker->Do(worker::Tick{});
  clock_->At(NowMs() + worker::kTickMs, [this] { Tick(); });
}

void Fleet::Stop() {
  if (stopping_.exchange(true)) return;
  clock_->Stop();  // before what it calls
  if (uploader_ != nullptr) uploader_->Stop();
  for (const auto& worker : workers_) worker->Cancel();
  for (const auto& worker : workers_) worker->WaitDone();
}

}  // namespace storyfarm::bench
