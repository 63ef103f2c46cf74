// The store's thread: group commits, the archive and snapshots, so that the loop never waits for a disk. Behind
// server.h.
//
//   Loop ── records ──> pending ─┬─ all that gathered: one RecordBatch ─> Store::Append ─> durable(number) ──> Loop
//        ── archives ─> chores ──┤                                             │
//        ── reads ────> chores ──┤                                             └─> fold (snapshot_fold.h)
//   fold ── snapshot ─> chores ──┘ one chore, or one piece of a snapshot, after each batch, so that neither starves the
//                                  other
#ifndef STORYFARM_COORDINATOR_RPC_COMMITTER_H_
#define STORYFARM_COORDINATOR_RPC_COMMITTER_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/core/farm.h"
#include "coordinator/store/store.h"
#include "farm/v1/record.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

// One batch is one entry of the log and one fsync. More records gain nothing by then, and Redis takes values of this
// size in a few milliseconds. A single record may be larger (limits.h, spec_bytes).
inline constexpr size_t kBatchRecords = 1'000;
inline constexpr size_t kBatchBytes = size_t{4} << 20;
// An append without an answer is sent again for this long. A Redis that starts again replays its file in less; whoever
// waits longer for a reply has given up.
inline constexpr int64_t kUnresolvedMs = 30'000;
// Between two tries of an append, an archive or a snapshot that the store refused (its disk is full): soon enough for a
// person who made room.
inline constexpr int64_t kRetryMs = 1'000;
// A refusal that lasts is logged again after so long.
inline constexpr int64_t kComplainMs = 30'000;
// Where others wait for their turn, an idle leader shows so often that it lives.
inline constexpr int64_t kBeatMs = 500;

class Committer {
 public:
  // Called on the store's thread.
  struct Events {
    // These records are durable, and everything before them. `last_record` is the last one's number.
    std::function<void(std::shared_ptr<const farm::v1::RecordBatch> batch, uint64_t last_record)> durable;
    // At this moment of the monotonic clock, and until somebody's next take-over, this process led. May be empty.
    std::function<void(int64_t at_ms)> led;
    // The store can't be used any more; nothing else is called after this. ABORTED: another coordinator took it over.
    // UNAVAILABLE: whether it kept what was sent last is not known. DATA_LOSS: it lost what it had acknowledged.
    std::function<void(const absl::Status& why)> failed;
  };

  // `sequence` and `last_record` are what the log ends with. `beats`: give signs of life also where nothing is
  // appended. Everything given outlives the committer.
  Committer(Store* store, base::Env* env, base::Log* log, uint64_t sequence, uint64_t last_record, bool beats,
            Events events);
  ~Committer() { Stop(); }

  // Ends the thread after the call that it is in. What is pending stays undone; reads get CANCELLED. Not from an event.
  void Stop();

  // All of these: any thread, return at once.
  void Append(std::vector<farm::v1::Record> records);
  // Stored once all records up to its own are durable, tried again until it is; then `stored` is called.
  void PutArchive(Archive archive, std::function<void()> stored);
  // Likewise; then `removed` is called.
  void RemoveArchive(std::string job_id, uint64_t after_record, std::function<void()> removed);
  void GetArchive(std::string job_id, std::function<void(absl::StatusOr<farm::v1::JobArchive>)> done);
  void SaveSnapshot(Snapshot snapshot, std::function<void()> saved);

  // Bytes of records that are not durable yet.
  size_t pending_bytes() const;

 private:
  enum class After { kDone, kGoOn, kTryAgain };
  struct Chore {
    uint64_t after_record = 0;
    int64_t not_before_ms = 0;
    std::function<After()> run;       // kGoOn: once more, soon; kTryAgain: in kRetryMs
    std::function<void()> abandoned;  // in place of `run` when the committer ends; may be empty
  };

  void Main();
  // The next batch, or an empty one.
  std::shared_ptr<const farm::v1::RecordBatch> TakeBatch(size_t* bytes);
  // Until it is durable (true) or the committer ends (false).
  bool Commit(const farm::v1::RecordBatch& batch);
  void RunOneChore();
  // Where one is due; when the next one is.
  int64_t BeatIfDue();
  // After a write of a chore: what it comes to.
  After Judge(const absl::Status& status, const char* complaint, const std::string& job_id);
  // True where the thread shall end meanwhile.
  bool Pause(int64_t ms);
  void Fail(const absl::Status& why);
  void AddChore(Chore chore);

  Store* const store_;
  base::Env* const env_;
  base::Log* const log_;
  const Events events_;
  uint64_t sequence_;     // of the last batch in the log; store's thread only
  uint64_t last_record_;  // durable; store's thread only
  const bool beats_;
  int64_t next_beat_ms_ = 0;       // store's thread only
  int64_t beat_complaint_ms_ = 0;  // not before; store's thread only

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool failed_ = false;
  std::deque<std::pair<farm::v1::Record, size_t>> pending_;  // with its bytes
  size_t pending_bytes_ = 0;
  std::list<Chore> chores_;
  std::thread thread_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_COMMITTER_H_
