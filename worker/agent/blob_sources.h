// Where a worker gets blobs from: its own cache, other workers, the coordinator, in this order.
#ifndef STORYFARM_WORKER_AGENT_BLOB_SOURCES_H_
#define STORYFARM_WORKER_AGENT_BLOB_SOURCES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "farm/v1/blob.grpc.pb.h"
#include "farm/v1/session.pb.h"
#include "pipeline/base/file_store.h"
#include "pipeline/base/transfer.h"

namespace storyfarm::worker {

// What came from where.
struct FetchedBytes {
  uint64_t from_peers = 0;
  uint64_t from_coordinator = 0;
};

// Thread-safe.
class BlobSources {
 public:
  using Stub = farm::v1::BlobService::StubInterface;
  // A way to the BlobService at an address that another worker told.
  using ConnectTo = std::function<std::shared_ptr<Stub>(const std::string& address)>;

  // `cache` and `coordinator` outlive this.
  BlobSources(base::FileStore& cache, Stub& coordinator, ConnectTo connect_to)
      : cache_(cache), coordinator_(coordinator), connect_to_(std::move(connect_to)) {}

  // Brings a blob into the cache and pins it. A file that lay there before this process is read through once first: one
  // that a disk damaged meanwhile is dropped and fetched. A peer that has not the blob, is out of reach or gives other
  // bytes costs a moment; the coordinator is waited for some minutes while it is away. NOT_FOUND, DATA_LOSS: the
  // coordinator has it not, or not whole. CANCELLED through `cancel`.
  absl::StatusOr<base::FilePin> Fetch(const farm::v1::BlobRef& blob, const std::vector<farm::v1::Peer>& peers,
                                      base::TransferCancel* cancel, FetchedBytes* fetched);

  // Files that a run found damaged since: reads these through, and drops those that are. How many were.
  int DropDamaged(const std::vector<std::string>& digests);

 private:
  bool Has(const base::Digest& digest);
  std::shared_ptr<Stub> PeerAt(const std::string& address);

  base::FileStore& cache_;
  Stub& coordinator_;
  const ConnectTo connect_to_;
  std::mutex mutex_;
  std::set<base::Digest> checked_;  // whole when this process last looked at them
  std::map<std::string, std::shared_ptr<Stub>> peers_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_BLOB_SOURCES_H_
