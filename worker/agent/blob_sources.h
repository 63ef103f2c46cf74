// Where a worker gets blobs from: its own cache, other workers, the coordinator, in this order.
#ifndef STORYFARM_WORKER_AGENT_BLOB_SOURCES_H_
#define STORYFARM_WORKER_AGENT_BLOB_SOURCES_H_

#include <chrono>
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

// When a peer is asked, and when it is left.
struct PeerPatience {
  // A peer that gives less than `stall_bytes` in `stall` is left: the coordinator has all that it could give. That is
  // slower than any network between machines that work together, and more than a busy disk takes for a chunk.
  absl::Duration stall = absl::Seconds(5);
  uint64_t stall_bytes = 1 << 20;
  // One that failed is not asked for so long, doubled with each failure in a row: a firewall that swallows packets
  // costs a stall every now and then, not one for each of a bank's fifty steps.
  absl::Duration first_rest = absl::Minutes(1);
  absl::Duration most_rest = absl::Hours(1);
  // Hears of each that is left so, from any thread. May be empty.
  std::function<void(const farm::v1::Peer& peer, const absl::Status& why)> left;
};

// Thread-safe.
class BlobSources {
 public:
  using Stub = farm::v1::BlobService::StubInterface;
  // A way to the BlobService of another worker.
  using ConnectTo = std::function<std::shared_ptr<Stub>(const farm::v1::Peer& peer)>;

  // `cache` and `coordinator` outlive this.
  BlobSources(base::FileStore& cache, Stub& coordinator, ConnectTo connect_to, PeerPatience patience = {})
      : cache_(cache), coordinator_(coordinator), connect_to_(std::move(connect_to)), patience_(patience) {}

  // Brings a blob into the cache and pins it. A file that lay there before this process is read through once first: one
  // that a disk damaged meanwhile is dropped and fetched. A peer that has not the blob, is out of reach, is none of this
  // farm's, or is slow or gives other bytes costs a moment, whatever it answers; the coordinator is waited for some minutes
  // while it is away. NOT_FOUND, DATA_LOSS: the coordinator has it not, or not whole. CANCELLED through `cancel`.
  absl::StatusOr<base::FilePin> Fetch(const farm::v1::BlobRef& blob, const std::vector<farm::v1::Peer>& peers,
                                      base::TransferCancel* cancel, FetchedBytes* fetched);

  // Files that a run found damaged since: reads these through, and drops those that are. How many were.
  int DropDamaged(const std::vector<std::string>& digests);

 private:
  struct Known {
    std::shared_ptr<Stub> stub;
    int failures = 0;  // in a row
    std::chrono::steady_clock::time_point not_before;
  };

  bool Has(const base::Digest& digest);
  // Null: it rests.
  std::shared_ptr<Stub> PeerFor(const farm::v1::Peer& peer);
  void Answered(const farm::v1::Peer& peer, const absl::Status& status);

  base::FileStore& cache_;
  Stub& coordinator_;
  const ConnectTo connect_to_;
  const PeerPatience patience_;
  std::mutex mutex_;
  std::set<base::Digest> checked_;  // whole when this process last looked at them
  std::map<std::string, Known> peers_;  // by address and certificate
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_BLOB_SOURCES_H_
