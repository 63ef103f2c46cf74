// Jobs as clients see them, wherever they lie: live and just finished ones in the farm, older ones in the store's
// archive.
#ifndef STORYFARM_COORDINATOR_RPC_JOB_READER_H_
#define STORYFARM_COORDINATOR_RPC_JOB_READER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/rpc/loop.h"
#include "coordinator/rpc/work_pool.h"
#include "farm/v1/client.pb.h"
#include "farm/v1/record.pb.h"

namespace storyfarm::coordinator {

inline constexpr uint32_t kPageSize = 100;       // where ListJobs asks for none
inline constexpr uint32_t kMostPageSize = 1000;  // as ListJobsRequest says
// Archived jobs whose status is kept at hand: reading one takes a few milliseconds of the store's thread, and a status
// is about 500 bytes.
inline constexpr size_t kArchivedAtHand = 2000;

class JobReader {
 public:
  // Both outlive it.
  JobReader(Loop* loop, WorkPool* pool) : loop_(loop), pool_(pool) {}

  struct Parts {
    bool tasks = false;
    bool spec = false;
  };
  // The job's status and what else is asked for; `done` is called once, on any thread. NOT_FOUND: no such job.
  void Read(const std::string& job_id, Parts parts, std::function<void(absl::StatusOr<farm::v1::JobArchive>)> done);

  // Newest first, without tasks. INVALID_ARGUMENT: page size or token.
  void List(const farm::v1::ListJobsRequest& request,
            std::function<void(absl::StatusOr<farm::v1::ListJobsResponse>)> done);

 private:
  struct Listing;
  // Completes the listing from `position` on with what lies in the archive.
  void FillIn(const std::shared_ptr<Listing>& listing, int position);
  bool FindAtHand(const std::string& job_id, farm::v1::JobStatus* status);
  void KeepAtHand(const farm::v1::JobStatus& status);

  Loop* const loop_;
  WorkPool* const pool_;
  std::mutex mutex_;
  std::map<std::string, farm::v1::JobStatus> at_hand_;  // archived jobs don't change
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_JOB_READER_H_
