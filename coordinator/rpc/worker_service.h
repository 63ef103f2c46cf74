// WorkerService: a stream for each worker, its messages to the loop and the farm's messages back. Behind server.h.
//
//   OnReadDone ──Hello, messages──> Loop::Tell ──taken──> the next StartRead     (one message of a worker in the queue)
//   Loop: deliver ──> unsent messages of the session ──> StartWrite ──> OnWriteDone ──> the next
//                     too many: the stream is cut off; the worker comes back with a new Hello
#ifndef STORYFARM_COORDINATOR_RPC_WORKER_SERVICE_H_
#define STORYFARM_COORDINATOR_RPC_WORKER_SERVICE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "coordinator/blob/blob_store.h"
#include "coordinator/rpc/guard.h"
#include "coordinator/rpc/loop.h"
#include "farm/v1/session.grpc.pb.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

class WorkerSession;

// Outlives the gRPC server that it is registered with.
class WorkerServiceImpl : public farm::v1::WorkerService::CallbackService {
 public:
  struct Limits {
    size_t sessions = 4'096;
    size_t unsent_a_session = 4'096;
  };
  // All of it outlives the service. `guard` tells whose certificate a session came with.
  WorkerServiceImpl(Loop* loop, BlobStore* blobs, const Guard* guard, base::Log* log, const Limits& limits);
  ~WorkerServiceImpl() override;

  grpc::ServerBidiReactor<farm::v1::WorkerMessage, farm::v1::CoordinatorMessage>* Session(
      grpc::CallbackServerContext* context) override;

  // The loop's outputs. Sessions that are gone are ignored.
  void Deliver(uint64_t session, farm::v1::CoordinatorMessage message);
  void Close(uint64_t session, const absl::Status& why);

  // Ends all streams, after what they still have to send; later ones end at once.
  void Stop(const absl::Status& why);

 private:
  friend class WorkerSession;
  std::shared_ptr<WorkerSession> Find(uint64_t session);
  void Closed(uint64_t session);

  Loop* const loop_;
  BlobStore* const blobs_;
  const Guard* const guard_;
  base::Log* const log_;
  const Limits limits_;
  std::mutex mutex_;
  uint64_t next_session_ = 1;
  std::optional<absl::Status> stopped_;
  std::map<uint64_t, std::shared_ptr<WorkerSession>> sessions_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_WORKER_SERVICE_H_
