#include "coordinator/rpc/webhooks.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {

std::string WebhookBody(const farm::v1::JobNotice& notice, uint32_t attempt, const std::string& attempt_id) {
  nlohmann::ordered_json body;
  body["event"] = "job_ended";
  body["job"] = notice.job_id();
  body["state"] = plan::StateName(notice.state());
  body["finished_unix_ms"] = notice.finished_unix_ms();
  body["frames"] = {
      {"total", notice.frames_total()}, {"done", notice.frames_done()}, {"failed", notice.frames_failed()}};
  body["pages"] = {{"total", notice.pages_total()}, {"done", notice.pages_done()}};
  body["attempt"] = attempt;
  body["attempt_id"] = attempt_id;
  return body.dump();
}

Webhooks::Webhooks(Parts parts) : parts_(std::move(parts)), thread_([this] { Main(); }) {}

void Webhooks::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  parts_.sender->Interrupt();
  if (thread_.joinable()) thread_.join();
}

void Webhooks::Add(const farm::v1::JobNotice& notice) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    due_.emplace(parts_.env->MonotonicMs(), Due{notice, 0, parts_.first_retry_ms});
  }
  changed_.notify_all();
}

void Webhooks::Main() {
  for (;;) {
    Due due;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      const auto wait = [this] {
        return due_.empty() ? std::chrono::milliseconds(kWebhookMostRetryMs)
                            : std::chrono::milliseconds(due_.begin()->first - parts_.env->MonotonicMs());
      };
      while (!stopping_ && (due_.empty() || wait().count() > 0)) changed_.wait_for(lock, wait());
      if (stopping_) return;
      due = std::move(due_.begin()->second);
      due_.erase(due_.begin());
    }
    Try(std::move(due));
  }
}

void Webhooks::Try(Due due) {
  if (!parts_.loop->leads()) {
    // One that was deposed ends soon, and whoever leads then tells it from the log; one whose store is slow goes on.
    const std::lock_guard<std::mutex> lock(mutex_);
    due_.emplace(parts_.env->MonotonicMs() + parts_.first_retry_ms, std::move(due));
    return;
  }
  const std::string& job = due.notice.job_id();
  ++due.tries;
  const std::string attempt_id = absl::StrCat(absl::Hex(parts_.random_bits(), absl::kZeroPad16));
  const absl::Status told = parts_.sender->Post(WebhookBody(due.notice, due.tries, attempt_id));
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_ && !told.ok()) return;  // interrupted: it says nothing of the receiver
  const std::string why(told.message());
  if (told.ok() || due.tries >= parts_.tries) {
    parts_.loop->Tell(NoticeAnswered{job, due.notice.finished_unix_ms(), told.ok(), due.tries, why}, {});
    return;
  }
  parts_.log->Warning(
      "webhook not told of the job's end, tried again",
      {{"job", job}, {"attempt_id", attempt_id}, {"tries", due.tries}, {"wait_ms", due.wait_ms}, {"why", why}});
  const int64_t at_ms = parts_.env->MonotonicMs() + due.wait_ms;
  due.wait_ms = std::min(due.wait_ms * 2, kWebhookMostRetryMs);
  due_.emplace(at_ms, std::move(due));
}

}  // namespace storyfarm::coordinator
