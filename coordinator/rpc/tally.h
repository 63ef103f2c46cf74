// What the farm has done since this coordinator began to lead, counted from the records as they become durable: so a
// result is counted once, and only if it was taken. Behind server.h, for ClientService's GetFigures.
#ifndef STORYFARM_COORDINATOR_RPC_TALLY_H_
#define STORYFARM_COORDINATOR_RPC_TALLY_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "farm/v1/figures.pb.h"
#include "farm/v1/record.pb.h"
#include "pipeline/base/env.h"

namespace storyfarm::coordinator {

// Grants and jobs that have begun and not ended, for how long they took: more than a thousand nodes hold at once, and
// some 10 MB. Beyond them the oldest give no measurement.
inline constexpr size_t kTalliedGrants = 100'000;
inline constexpr size_t kTalliedJobs = 10'000;

// Any thread.
class Tally {
 public:
  // `env` tells the time and outlives this.
  explicit Tally(base::Env* env);

  // Durable records, in order.
  void Count(const farm::v1::RecordBatch& batch);
  // A group commit took so long.
  void Committed(int64_t ms);

  // Fills in what Figures says of the time since this coordinator leads.
  void AddTo(farm::v1::Figures* figures) const;

 private:
  using Token = std::pair<uint64_t, uint64_t>;  // incarnation, number
  struct Grant {
    std::string job_id;
    int64_t granted_ms = 0;
    uint64_t planned_bytes = 0;
    uint32_t tasks = 0;  // that have not ended
  };
  struct JobClock {
    int64_t accepted_ms = 0;
    bool granted = false;
  };

  void CountRecord(const farm::v1::Record& record, int64_t now_ms);  // these hold mutex_
  void CountGrant(const farm::v1::Granted& fact, int64_t now_ms);
  void CountResult(farm::v1::TaskKind kind, const farm::v1::FencingToken& token, uint64_t work_ms, uint64_t peak_bytes,
                   int64_t now_ms);
  void CountJobEnd(const std::string& job_id, farm::v1::JobState state, int64_t now_ms);
  // The grant of a task that ended; taken out with its last one.
  Grant TakeFrom(const farm::v1::FencingToken& token);

  base::Env* const env_;
  const int64_t began_ms_;
  mutable std::mutex mutex_;
  farm::v1::Figures done_;  // all but what follows
  std::map<farm::v1::JobState, uint64_t> jobs_ended_;
  std::map<std::pair<farm::v1::TaskKind, farm::v1::FailureKind>, uint64_t> attempts_;
  std::map<farm::v1::TaskKind, farm::v1::Distribution> work_seconds_;
  std::map<farm::v1::TaskKind, farm::v1::Distribution> attempt_seconds_;
  std::map<Token, Grant> grants_;
  std::deque<Token> grants_in_order_;
  std::map<std::string, JobClock> jobs_;
  std::deque<std::string> jobs_in_order_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_TALLY_H_
