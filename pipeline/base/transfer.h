// Blobs to and from a BlobService, in chunks, resumed where they broke off. Target storyfarm_blob_transfer.
//
// Every function blocks; call it on a thread of its own. What is transient (UNAVAILABLE, ABORTED, a deadline of one
// call) is tried again with growing pauses; progress made by an attempt starts the count anew. What is not
// (INVALID_ARGUMENT, RESOURCE_EXHAUSTED, DATA_LOSS, ...) ends it at once.
#ifndef STORYFARM_PIPELINE_BASE_TRANSFER_H_
#define STORYFARM_PIPELINE_BASE_TRANSFER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "farm/v1/blob.grpc.pb.h"
#include "farm/v1/blob.pb.h"
#include "pipeline/base/file_store.h"

namespace storyfarm::base {

// 1.24 GiB/s on loopback at this size; larger chunks gained nothing and cost memory a stream.
inline constexpr size_t kBlobChunkBytes = 512 << 10;
// Digests a FindMissing call may carry.
inline constexpr size_t kMaxFindMissing = 10'000;

// Stops transfers from another thread. Thread-safe; one may serve many transfers.
class TransferCancel {
 public:
  TransferCancel();
  ~TransferCancel();
  // Every transfer that was given this ends soon with CANCELLED; those to come end at once.
  void Cancel();
  bool cancelled() const;

  struct State;
  State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

struct TransferOptions {
  TransferCancel* cancel = nullptr;  // outlives the call
  // Failed attempts without a byte of progress before giving up; pauses of 0.2 s, 0.4 s, ... up to `max_pause` between
  // them: about half a minute in all, so that a coordinator may restart under a transfer.
  int max_attempts = 10;
  absl::Duration first_pause = absl::Milliseconds(200);
  absl::Duration max_pause = absl::Seconds(5);
  // An attempt that moves fewer than `stall_bytes` of data in so long is ended and counted as failed.
  absl::Duration stall = absl::Seconds(30);
  uint64_t stall_bytes = 1;
  // Called after each chunk with the bytes of the blob that are through, resumed ones included. May be empty.
  std::function<void(uint64_t)> progress;
};

// Uploads the file at `path`, which must be what `blob` says and must not change meanwhile. `upload_id` names the
// server's partial file: give the same one to resume across restarts. OK: durable there. DATA_LOSS: the file is not
// what `blob` says.
absl::Status UploadFile(farm::v1::BlobService::StubInterface& stub, Env& env, const std::string& path,
                        const farm::v1::BlobRef& blob, const std::string& upload_id,
                        const TransferOptions& options = {});

// Brings a blob into the store, unless it is there, and pins it. What an earlier call left is resumed. NOT_FOUND: the
// server does not have it. DATA_LOSS: what came does not hash to the digest, twice; nothing is kept.
absl::StatusOr<FilePin> DownloadTo(farm::v1::BlobService::StubInterface& stub, FileStore& store,
                                   const farm::v1::BlobRef& blob, const TransferOptions& options = {});

// A small blob into memory, verified. RESOURCE_EXHAUSTED where it is larger than `max_bytes`.
absl::StatusOr<std::string> DownloadBytes(farm::v1::BlobService::StubInterface& stub, const farm::v1::BlobRef& blob,
                                          uint64_t max_bytes, const TransferOptions& options = {});

// Which of these the server lacks, in the order given, each once. Any number: asked in calls of kMaxFindMissing.
absl::StatusOr<std::vector<farm::v1::BlobRef>> FindMissing(farm::v1::BlobService::StubInterface& stub,
                                                           const std::vector<farm::v1::BlobRef>& blobs,
                                                           const TransferOptions& options = {});

farm::v1::BlobRef MakeBlobRef(const Digest& digest, uint64_t size_bytes);
inline farm::v1::BlobRef MakeBlobRef(const StoredFile& file) { return MakeBlobRef(file.digest, file.size_bytes); }

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_TRANSFER_H_
