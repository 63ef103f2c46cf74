// Removes blobs that nothing needs any more: what only forgotten jobs named, and uploads that no job or result ever
// did. Behind server.h.
//
//   BlobStore::Unused ── less what the farm's durable state names (Farm::LiveBlobs)
//                     ── less what archived jobs name, read from the store one by one
//                     ──> Condemn ──> CondemnBlobs, durable ──> does it still lead? ──> Unlink ──> BlobsUnlinked
//
// Durable state is behind what the farm knows, but what it lacks was found present less than kPinMs ago, and so is not
// unused. One that was deposed can't make the record durable; one that is deposed after it finds that it may not lead
// any more before each file, as long before anybody else does as with everything that it says (loop.h). Whoever takes
// over finds the digests condemned: they count as missing there, too, until it has taken their files away.
#ifndef STORYFARM_COORDINATOR_RPC_COLLECTOR_H_
#define STORYFARM_COORDINATOR_RPC_COLLECTOR_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/blob/blob_store.h"
#include "coordinator/rpc/loop.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

// A blob lies unused for a day before it may go: an hour more is nothing.
inline constexpr int64_t kCollectMs = int64_t{3600} * 1000;
// One record's digests: 32 KB.
inline constexpr size_t kCondemnedAtOnce = 1'000;

class Collector {
 public:
  // All of it outlives the collector. The loop runs.
  struct Parts {
    Loop* loop = nullptr;
    BlobStore* blobs = nullptr;
    base::Log* log = nullptr;
  };
  // Starts a thread that collects every kCollectMs, the first time at once: for what was condemned before.
  explicit Collector(const Parts& parts);
  ~Collector() { Stop(); }
  // The loop has been stopped, so that nothing here waits for it.
  void Stop();

 private:
  void Main();

  const Parts parts_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

// One round, on a thread that may wait for the loop. Returns how many files went. An error ends the round; the next one
// takes up what it left.
absl::StatusOr<size_t> CollectBlobsOnce(const Collector::Parts& parts);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_COLLECTOR_H_
