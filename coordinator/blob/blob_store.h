// The coordinator's blobs: every input and result of every job, as files named by their SHA-256. For coordinator/rpc,
// which serves them (blob_service.h) and takes a result only when all of its blobs are here.
//
//   uploads ──> StoreWriter ──verify, fsync, rename──> root/ab/ab12... ──> downloads, results
//
// A blob counts as present only when its bytes were verified and are durable. What was said to be present stays so for
// kPinMs, and nothing goes before the store has been open for as long. What nobody needs goes in two steps, between
// which the farm records it (coordinator/rpc/collector.h), so that one that was deposed removes nothing:
//
//     Unused ──> Condemn: counts as missing, takes no upload ──> recorded ──> Unlink
//                 refused where somebody was told of it meanwhile
#ifndef STORYFARM_COORDINATOR_BLOB_BLOB_STORE_H_
#define STORYFARM_COORDINATOR_BLOB_BLOB_STORE_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/blob.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/base/file_store.h"

namespace storyfarm::coordinator {

// The largest file of a model that the farm takes: SDXL's UNet in fp32 has 10.3 GB.
inline constexpr uint64_t kMaxBlobBytes = uint64_t{64} << 30;

// Time to submit what was found present, to name it in a result, to read it.
inline constexpr int64_t kPinMs = int64_t{24} * 3600 * 1000;

struct BlobStoreOptions {
  // Where other processes may write below the same root: a name of this one's own, so that one that was believed dead
  // and wakes touches no upload of this one's. Uploads that it began are then not resumed by others.
  std::string writer;
  // Uploads are refused that would make the finished files take more than this; 0: no bound.
  uint64_t quota_bytes = 0;
  // Digests condemned before this start.
  std::vector<std::string> condemned;
};

// Thread-safe.
class BlobStore {
 public:
  // Creates the folder where it is missing. Errors as Env says.
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(base::Env& env, const std::string& root,
                                                         const BlobStoreOptions& options = {});

  // `digest`: the 32 bytes that messages carry; anything else is absent. What is present is pinned for kPinMs, here and
  // by all that follow.
  bool Has(const std::string& digest);

  // Those of `blobs` that are absent, in order, each once. INVALID_ARGUMENT: a digest that is not 32 bytes, or a blob
  // that is present with another size than its ref says.
  absl::StatusOr<std::vector<farm::v1::BlobRef>> FindMissing(const std::vector<farm::v1::BlobRef>& blobs);

  // Starts or resumes an upload. INVALID_ARGUMENT: digest, upload id, or a size over kMaxBlobBytes. ABORTED: another
  // stream writes the same upload, or an old file of the blob is just being removed. RESOURCE_EXHAUSTED: no room on the
  // disk.
  absl::StatusOr<std::unique_ptr<base::StoreWriter>> OpenWriter(const farm::v1::BlobRef& blob,
                                                                const std::string& upload_id);
  // Bytes of an upload that broke off and are kept.
  absl::StatusOr<uint64_t> KeptBytes(const farm::v1::BlobRef& blob, const std::string& upload_id);

  // Reads the file once, and takes it away where its bytes are not what the digest names; one that somebody reads just
  // now stays, for the next call. False where it is not there afterwards.
  bool Verify(const std::string& digest);

  // The file, which stays while the pin lives. NOT_FOUND names the digest.
  absl::StatusOr<base::FilePin> Pin(const std::string& digest);

  // Digests of files that nobody was told of for kPinMs.
  std::vector<std::string> Unused();
  // False where somebody was told of it meanwhile.
  bool Condemn(const std::string& digest);
  // Takes a condemned file away, also where it is gone already; then the blob may be uploaded again. An error leaves it
  // condemned.
  absl::Status Unlink(const std::string& digest);
  // Takes Condemn back.
  void Spare(const std::string& digest);
  std::vector<std::string> Condemned();
  uint64_t used_bytes() const { return files_->used_bytes(); }

  base::Env& env() { return files_->env(); }

 private:
  BlobStore(std::unique_ptr<base::FileStore> files, const std::vector<std::string>& condemned)
      : files_(std::move(files)), condemned_(condemned.begin(), condemned.end()) {}
  bool HasLocked(const base::Digest& digest);
  const std::unique_ptr<base::FileStore> files_;
  std::mutex mutex_;  // held while a pin is set or looked for, so that Condemn passes none by
  std::set<std::string> condemned_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_BLOB_BLOB_STORE_H_
