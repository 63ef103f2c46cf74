// The farm's memory on disk: an append-only log of record batches, a snapshot that stands for the log's beginning, and
// an archive of finished jobs. For coordinator/rpc. Two stores keep one contract (tests/contract): MemoryStore, for
// tests and the simulation, and RedisStore (with PrivateRedis where the user has no Redis).
//
//     TakeOver ──> epoch          one writer: the newest take-over; all others are fenced from then on
//     Load     ──> snapshot, then every batch after it, in order
//     Append   ──> one batch = one log entry = one fsync, for as many records as gathered meanwhile
//
// Redis layout; every key begins with "storyfarm:{<farm>}:", the braces keep one farm in one cluster slot:
//     version    of this layout
//     epoch      counter, raised by each take-over
//     log        stream; entry <sequence>-0 has one field "b", a serialized RecordBatch
//     head       sequence of the log's last entry, also when the log was trimmed to nothing
//     snapshot   hash: sequence, pieces; absent at first
//     snapshot:<sequence>   hash: piece number -> at most 8 MB of State
//     writing    sequence of a snapshot that is being written and not yet pointed to
//     archive    hash: job id -> serialized JobArchive
// Every write goes through a Lua script that compares the epoch first, so a fenced writer changes nothing.
//
// Threads: one store object serves one thread at a time; calls block.
#ifndef STORYFARM_COORDINATOR_STORE_STORE_H_
#define STORYFARM_COORDINATOR_STORE_STORE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/record.pb.h"

namespace storyfarm::coordinator {

enum class AppendOutcome {
  kAppended,  // durable: it is in the log, once
  kFenced,    // another take-over happened: this process must forget its State and stop, or load again
  kUnknown,   // no answer: it may or may not be in the log. Send the same batch again; that is safe
  kGap,       // its sequence does not follow the log's last one: a defect of the caller, nothing was written
  kRefused,   // the store said no and wrote nothing (full, read-only): try again later
};
struct AppendResult {
  AppendOutcome outcome = AppendOutcome::kUnknown;
  std::string message;  // for people; empty when appended
};

// A state that stands for all batches up to `sequence`.
struct Snapshot {
  uint64_t sequence = 0;
  std::vector<std::string> pieces;
};

// What Load found: the last sequence in the log (0: empty), after which the next Append goes.
struct LogEnd {
  uint64_t sequence = 0;
};

class Store {
 public:
  virtual ~Store() = default;

  // Becomes the one writer and returns the new epoch. UNAVAILABLE where the store can't be reached.
  virtual absl::StatusOr<uint64_t> TakeOver() = 0;

  // Hands over the newest snapshot, if there is one, then every later batch in order. Reads only.
  // DATA_LOSS names a gap or a damaged entry; an error of a callback ends the load and is returned.
  virtual absl::StatusOr<LogEnd> Load(const std::function<absl::Status(const Snapshot&)>& on_snapshot,
                                      const std::function<absl::Status(const farm::v1::RecordBatch&)>& on_batch) = 0;

  // Makes one batch durable. `batch.sequence` is one more than that of the batch before. Needs TakeOver.
  virtual AppendResult Append(const farm::v1::RecordBatch& batch) = 0;

  // Puts a snapshot in place under the epoch and drops the log entries and the snapshot that it replaces.
  // ABORTED: fenced. Batches after `snapshot.sequence` stay.
  virtual absl::Status SaveSnapshot(const Snapshot& snapshot) = 0;

  // Finished jobs, by job id. Writing the same job again replaces it. PutArchive returns when durable;
  // ABORTED: fenced. GetArchive: NOT_FOUND where there is none.
  virtual absl::Status PutArchive(const std::string& job_id, const farm::v1::JobArchive& body) = 0;
  virtual absl::StatusOr<farm::v1::JobArchive> GetArchive(const std::string& job_id) = 0;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_STORE_STORE_H_
