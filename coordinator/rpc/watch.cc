#include "coordinator/rpc/watch.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/status.h"

namespace storyfarm::coordinator {
namespace {

// How long the hub's thread sleeps where nothing is due; every change wakes it.
constexpr int64_t kIdleMs = 60'000;

bool IsFinal(farm::v1::JobState state) {
  return state == farm::v1::JOB_DONE || state == farm::v1::JOB_FAILED || state == farm::v1::JOB_CANCELLED;
}

}  // namespace

Watch::Watch(WatchHub* hub, std::string job_id, bool with_tasks)
    : hub_(hub), job_id_(std::move(job_id)), with_tasks_(with_tasks) {}

void Watch::Offer(const farm::v1::JobStatus& status) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (end_.has_value()) return;
  next_ = status;
  if (IsFinal(status.state())) end_ = absl::OkStatus();
  Advance();
}

void Watch::End(const absl::Status& status) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!end_.has_value()) end_ = status;
  Advance();
}

void Watch::Advance() {
  if (writing_ || finished_) return;
  if (next_.has_value()) {
    sent_ = *std::move(next_);
    next_.reset();
    writing_ = true;
    StartWrite(&sent_);
  } else if (end_.has_value()) {
    finished_ = true;
    Finish(ToGrpc(*end_, nullptr));
  }
}

void Watch::OnWriteDone(bool ok) {
  std::lock_guard<std::mutex> lock(mutex_);
  writing_ = false;
  if (!ok) {
    next_.reset();
    if (!end_.has_value()) end_ = absl::CancelledError("The client went away.");
  }
  Advance();
}

void Watch::OnCancel() {
  std::lock_guard<std::mutex> lock(mutex_);
  next_.reset();
  end_ = absl::CancelledError("The client went away.");
  Advance();
}

void Watch::OnDone() {
  std::shared_ptr<Watch> self;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    self = std::move(self_);
  }
  if (self != nullptr) hub_->Closed(self);
}

WatchHub::WatchHub(JobReader* reader, base::Env* env, int64_t interval_ms, size_t limit)
    : reader_(reader), env_(env), interval_ms_(interval_ms), limit_(limit), thread_([this] { Main(); }) {}

Watch* WatchHub::Open(const std::string& job_id, bool with_tasks) {
  auto watch = std::make_shared<Watch>(this, job_id, with_tasks);
  absl::Status refusal;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopped_.has_value()) {
      refusal = *stopped_;
    } else if (watches_.size() >= limit_) {
      refusal = absl::ResourceExhaustedError(
          absl::StrCat("The coordinator already shows ", limit_, " watchers what happens; ask with GetJob instead."));
    } else {
      watches_.insert(watch);
    }
  }
  {
    std::lock_guard<std::mutex> lock(watch->mutex_);
    watch->self_ = watch;
  }
  if (!refusal.ok()) watch->End(refusal);
  changed_.notify_all();
  return watch.get();
}

void WatchHub::Changed(const std::vector<std::string>& job_ids) {
  bool any = false;  // that was not marked already: a farm at work changes all the time, and mostly nobody watches
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const std::shared_ptr<Watch>& watch : watches_) {
      if (watch->due_ || !std::binary_search(job_ids.begin(), job_ids.end(), watch->job_id_)) continue;
      watch->due_ = true;
      any = true;
    }
  }
  if (any) changed_.notify_all();
}

void WatchHub::Stop(const absl::Status& why) {
  std::set<std::shared_ptr<Watch>> watches;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!stopped_.has_value()) stopped_ = why;
    watches = watches_;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (const std::shared_ptr<Watch>& watch : watches) watch->End(why);
}

void WatchHub::Main() {
  for (;;) {
    std::vector<std::shared_ptr<Watch>> due;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (stopped_.has_value()) return;
      const int64_t now_ms = env_->MonotonicMs();
      int64_t wake_ms = now_ms + kIdleMs;
      for (const std::shared_ptr<Watch>& watch : watches_) {
        if (!watch->due_ || watch->reading_) continue;
        if (watch->not_before_ms_ > now_ms) {
          wake_ms = std::min(wake_ms, watch->not_before_ms_);
          continue;
        }
        watch->due_ = false;
        watch->reading_ = true;
        watch->not_before_ms_ = now_ms + interval_ms_;
        due.push_back(watch);
      }
      if (due.empty()) {
        changed_.wait_for(lock, std::chrono::milliseconds(wake_ms - now_ms));
        continue;
      }
    }
    for (const std::shared_ptr<Watch>& watch : due) Read(watch);
  }
}

void WatchHub::Read(const std::shared_ptr<Watch>& watch) {
  JobReader::Parts parts;
  parts.tasks = watch->with_tasks_;
  reader_->Read(watch->job_id_, parts, [this, watch](absl::StatusOr<farm::v1::JobArchive> body) {
    if (body.ok()) {
      watch->Offer(body->status());
    } else if (!IsBusy(body.status())) {
      watch->End(body.status());
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      watch->reading_ = false;
      if (!body.ok()) watch->due_ = true;  // the loop was busy: again at the next turn
    }
    changed_.notify_all();
  });
}

void WatchHub::Closed(const std::shared_ptr<Watch>& watch) {
  std::lock_guard<std::mutex> lock(mutex_);
  watches_.erase(watch);
}

}  // namespace storyfarm::coordinator
