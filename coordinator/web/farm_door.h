// What the web page asks of the farm: the calls of ClientService and BlobService, and nothing beside them, so that the
// page shows what storyctl shows. The program gives it a door that goes through the coordinator's own socket
// (coordinator/rpc/web_door.h); tests give it one of their own.
#ifndef STORYFARM_COORDINATOR_WEB_FARM_DOOR_H_
#define STORYFARM_COORDINATOR_WEB_FARM_DOOR_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/client.pb.h"
#include "farm/v1/figures.pb.h"
#include "farm/v1/job.pb.h"

namespace storyfarm::coordinator {

// One job's status as it changes. Next: one thread.
class JobStream {
 public:
  virtual ~JobStream() = default;
  // Waits for the next one. OUT_OF_RANGE after the last one of a job that has ended; else why there is no more.
  virtual absl::StatusOr<farm::v1::JobStatus> Next() = 0;
  // Ends the Next that waits and all later ones. Any thread.
  virtual void Cancel() = 0;
};

// One blob's bytes. One thread.
class BlobStream {
 public:
  virtual ~BlobStream() = default;
  virtual uint64_t size_bytes() const = 0;
  // The next piece; empty at the end.
  virtual absl::StatusOr<std::string> Next() = 0;
};

// Any thread. Every call returns within kDoorSeconds, with a sentence where it fails.
class FarmDoor {
 public:
  virtual ~FarmDoor() = default;

  virtual absl::StatusOr<farm::v1::ListJobsResponse> ListJobs(const farm::v1::ListJobsRequest& request) = 0;
  virtual absl::StatusOr<farm::v1::JobStatus> GetJob(const farm::v1::GetJobRequest& request) = 0;
  virtual absl::StatusOr<farm::v1::ListOutputsResponse> ListOutputs(const farm::v1::ListOutputsRequest& request) = 0;
  virtual absl::StatusOr<farm::v1::Explanation> ExplainTask(const farm::v1::ExplainTaskRequest& request) = 0;
  virtual absl::StatusOr<farm::v1::ListNodesResponse> ListNodes() = 0;
  virtual absl::StatusOr<farm::v1::Figures> GetFigures() = 0;
  virtual absl::StatusOr<farm::v1::ReadLogResponse> ReadLog(const farm::v1::ReadLogRequest& request) = 0;

  virtual absl::StatusOr<farm::v1::JobStatus> ChangeJob(const farm::v1::ChangeJobRequest& request) = 0;
  virtual absl::StatusOr<farm::v1::JobStatus> CancelJob(const farm::v1::CancelJobRequest& request) = 0;
  virtual absl::StatusOr<farm::v1::JobStatus> RetryJob(const farm::v1::RetryJobRequest& request) = 0;
  virtual absl::StatusOr<farm::v1::RemoveJobResponse> RemoveJob(const farm::v1::RemoveJobRequest& request) = 0;
  virtual absl::StatusOr<farm::v1::NodeStatus> DrainNode(const farm::v1::DrainNodeRequest& request) = 0;

  // With tasks. Opens at once; what is wrong is told by the first Next.
  virtual std::unique_ptr<JobStream> WatchJob(const std::string& job_id) = 0;
  // NOT_FOUND where the farm has no such blob.
  virtual absl::StatusOr<std::unique_ptr<BlobStream>> ReadBlob(const std::string& digest) = 0;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_FARM_DOOR_H_
