// BlobService over the coordinator's blob store. Disk work runs on threads of its own, so that a slow disk delays
// neither heartbeats nor submits; a stream holds one chunk at a time, so that memory is bounded by streams x 512 KiB.
#ifndef STORYFARM_COORDINATOR_RPC_BLOB_SERVICE_H_
#define STORYFARM_COORDINATOR_RPC_BLOB_SERVICE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "coordinator/blob/blob_store.h"
#include "coordinator/rpc/work_pool.h"
#include "farm/v1/blob.grpc.pb.h"

namespace storyfarm::coordinator {

struct BlobLimits {
  // Open Write and Read streams; one more answers UNAVAILABLE, and the client tries again. 256 of them hold
  // 128 MiB of chunks.
  int streams = 256;
  int disk_threads = 4;  // two transfers saturate a disk; four leave room for a slow fsync
  size_t queued_work =
      256 + 1024;                // every stream's next chunk, and as many short calls as a farm's workers send at once
  size_t find_missing = 10'000;  // digests a call: 0.5 MB of request
  size_t chunk_bytes = 512 << 10;  // as blob.proto promises
};

// Outlive the server that it is registered with. Destroy only after that server has shut down.
class BlobServiceImpl : public farm::v1::BlobService::CallbackService {
 public:
  explicit BlobServiceImpl(BlobStore& store, const BlobLimits& limits = BlobLimits());

  // Bytes of blobs that were given to whoever read them.
  uint64_t given_bytes() const { return given_bytes_; }

  grpc::ServerUnaryReactor* FindMissing(grpc::CallbackServerContext* context,
                                        const farm::v1::FindMissingRequest* request,
                                        farm::v1::FindMissingResponse* response) override;
  grpc::ServerReadReactor<farm::v1::WriteRequest>* Write(grpc::CallbackServerContext* context,
                                                         farm::v1::WriteResponse* response) override;
  grpc::ServerUnaryReactor* QueryWrite(grpc::CallbackServerContext* context, const farm::v1::QueryWriteRequest* request,
                                       farm::v1::QueryWriteResponse* response) override;
  grpc::ServerWriteReactor<farm::v1::ReadResponse>* Read(grpc::CallbackServerContext* context,
                                                         const farm::v1::ReadRequest* request) override;

 private:
  BlobStore& store_;
  const BlobLimits limits_;
  std::atomic<int> streams_ = 0;
  std::atomic<uint64_t> given_bytes_ = 0;
  WorkPool pool_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_BLOB_SERVICE_H_
