// WatchJob streams: each gets its job's status at once, then after changes, at most one in `interval_ms`, and ends
// after a final state. Changes that come faster, or than the client reads, are skipped: only the newest is sent. Behind
// client_service.h.
//
//   Loop: changed(job) ──> WatchHub marks the job's watches ── its thread, at each one's pace ──> JobReader ──> Watch
#ifndef STORYFARM_COORDINATOR_RPC_WATCH_H_
#define STORYFARM_COORDINATOR_RPC_WATCH_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/rpc/job_reader.h"
#include "farm/v1/job.pb.h"
#include "pipeline/base/env.h"

namespace storyfarm::coordinator {

class WatchHub;

// One stream. Keeps itself alive until gRPC is done with it.
class Watch : public grpc::ServerWriteReactor<farm::v1::JobStatus> {
 public:
  Watch(WatchHub* hub, std::string job_id, bool with_tasks);

  // Sends this now, or when the message before it has gone; it replaces one that still waits.
  void Offer(const farm::v1::JobStatus& status);
  // Ends the stream; after what is being sent.
  void End(const absl::Status& status);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  friend class WatchHub;
  // Starts what is next, where nothing is under way. Holds mutex_.
  void Advance();

  WatchHub* const hub_;
  const std::string job_id_;
  const bool with_tasks_;

  // WatchHub's, under its mutex.
  bool due_ = true;
  bool reading_ = false;
  int64_t not_before_ms_ = 0;

  std::mutex mutex_;
  bool writing_ = false;
  bool finished_ = false;
  std::optional<farm::v1::JobStatus> next_;
  std::optional<absl::Status> end_;
  farm::v1::JobStatus sent_;  // gRPC reads it until OnWriteDone
  std::shared_ptr<Watch> self_;
};

class WatchHub {
 public:
  WatchHub(JobReader* reader, base::Env* env, int64_t interval_ms, size_t limit);
  ~WatchHub() { Stop(absl::UnavailableError("The coordinator stopped.")); }

  // A new stream for gRPC to drive.
  Watch* Open(const std::string& job_id, bool with_tasks);
  // Any thread; returns at once.
  void Changed(const std::vector<std::string>& job_ids);
  // Ends all streams and the thread; later ones end at once.
  void Stop(const absl::Status& why);

 private:
  friend class Watch;
  void Main();
  void Read(const std::shared_ptr<Watch>& watch);
  void Closed(const std::shared_ptr<Watch>& watch);

  JobReader* const reader_;
  base::Env* const env_;
  const int64_t interval_ms_;
  const size_t limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<absl::Status> stopped_;
  std::set<std::shared_ptr<Watch>> watches_;
  std::thread thread_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_WATCH_H_
