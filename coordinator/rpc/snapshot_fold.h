// The second fold of the log: a Farm of its own on a thread of its own, fed with the batches that are durable, which
// from time to time is written out as a snapshot. So the loop's Farm is never stopped for it, and what a snapshot holds
// is what the log says, not what the loop believes. Behind server.h.
#ifndef STORYFARM_COORDINATOR_RPC_SNAPSHOT_FOLD_H_
#define STORYFARM_COORDINATOR_RPC_SNAPSHOT_FOLD_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/status/status.h"
#include "coordinator/core/farm.h"
#include "coordinator/store/store.h"
#include "farm/v1/record.pb.h"

namespace storyfarm::coordinator {

// A start replays at most about this much of the log: a second of work. Either is enough for a snapshot.
inline constexpr size_t kSnapshotRecords = 50'000;
inline constexpr size_t kSnapshotBytes = size_t{64} << 20;
// Batches that wait to be folded. Folding is faster than the fsync that made them; it stands still only while State is
// written out.
inline constexpr size_t kUnfoldedBatches = 10'000;

class SnapshotFold {
 public:
  struct Options {
    size_t records = kSnapshotRecords;
    size_t bytes = kSnapshotBytes;
  };
  struct Events {
    // Save this, then call `saved`; until then no other is made. On the fold's thread.
    std::function<void(Snapshot snapshot, std::function<void()> saved)> save;
    // A batch could not follow those before it. Nothing is called after this.
    std::function<void(const absl::Status& why)> failed;
  };

  // `farm` has folded the log's first `sequence` batches.
  SnapshotFold(std::unique_ptr<Farm> farm, uint64_t sequence, const Options& options, Events events);
  ~SnapshotFold() { Stop(); }
  // Ends the thread; no event is called afterwards. `saved` may still be called.
  void Stop();

  // The next durable batch. Waits while kUnfoldedBatches are waiting.
  void Add(std::shared_ptr<const farm::v1::RecordBatch> batch);

  // Shows what is durable, as of a batch, on the fold's thread; or null where it ends before. Any thread; returns at
  // once.
  void Look(std::function<void(const Farm* farm, uint64_t sequence)> look);

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    bool stopping = false;
    bool saving = false;
    std::deque<std::shared_ptr<const farm::v1::RecordBatch>> batches;
    std::deque<std::function<void(const Farm*, uint64_t)>> looks;
  };

  void Main();
  // Waits for the next batch, and shows the farm meanwhile; false: the thread shall end.
  bool NextBatch(std::shared_ptr<const farm::v1::RecordBatch>* batch, bool* may_save);

  const std::unique_ptr<Farm> farm_;
  uint64_t sequence_;
  const Options options_;
  const Events events_;
  const std::shared_ptr<Shared> shared_;  // outlives the fold where a save is under way
  std::thread thread_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_SNAPSHOT_FOLD_H_
