// Tells a program outside of each job's end, over HTTP, on a thread of its own: the loop never waits for it. Behind
// server.h.
//
//   Loop ── notice (durable) ─> Add ─> due ─> WebhookSender::Post ── answered ──> Loop: NoticeAnswered ─> settled
//                                       ^                         └─ not ─> again after 1 s, 2 s, ... 5 min; after
//                                       └──────────────────────────────────  kWebhookTries given up
//
// At least once: what is not settled in the log is told again after a restart, by whoever leads then. So a receiver may
// hear of one end twice: it knows them by the job's id, and each request by its attempt_id, which never repeats.
#ifndef STORYFARM_COORDINATOR_RPC_WEBHOOKS_H_
#define STORYFARM_COORDINATOR_RPC_WEBHOOKS_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "coordinator/rpc/loop.h"
#include "farm/v1/record.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

// 1 s, doubled up to 5 min: after 20 tries more than an hour has passed, in which a receiver was mended, or is gone.
inline constexpr int64_t kWebhookFirstRetryMs = 1'000;
inline constexpr int64_t kWebhookMostRetryMs = 300'000;
inline constexpr uint32_t kWebhookTries = 20;

// One receiver.
class WebhookSender {
 public:
  virtual ~WebhookSender() = default;
  // Posts JSON. OK where the receiver took it; else a sentence. Returns within a few seconds, at once after Interrupt.
  virtual absl::Status Post(const std::string& body) = 0;
  // Any thread.
  virtual void Interrupt() = 0;
};

// A JSON object: event, job, state, finished_unix_ms, frames, pages, attempt and attempt_id. Nothing of the story.
std::string WebhookBody(const farm::v1::JobNotice& notice, uint32_t attempt, const std::string& attempt_id);

class Webhooks {
 public:
  // All of it outlives this. The loop runs.
  struct Parts {
    Loop* loop = nullptr;
    WebhookSender* sender = nullptr;
    base::Env* env = nullptr;
    base::Log* log = nullptr;
    std::function<uint64_t()> random_bits;
    int64_t first_retry_ms = kWebhookFirstRetryMs;
    uint32_t tries = kWebhookTries;
  };
  explicit Webhooks(Parts parts);
  ~Webhooks() { Stop(); }
  // Ends the thread; what is due stays due in the log.
  void Stop();

  // Any thread; returns at once.
  void Add(const farm::v1::JobNotice& notice);

 private:
  struct Due {
    farm::v1::JobNotice notice;
    uint32_t tries = 0;
    int64_t wait_ms = 0;  // before the next try
  };
  void Main();
  void Try(Due due);

  const Parts parts_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::multimap<int64_t, Due> due_;  // by when, on the monotonic clock
  std::thread thread_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_WEBHOOKS_H_
