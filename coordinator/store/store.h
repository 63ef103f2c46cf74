// The farm's memory on disk: an append-only log of record batches, a snapshot that stands for the log's beginning, and
// an archive of finished jobs. For coordinator/rpc. Two stores keep one contract (tests/contract): MemoryStore, for
// tests and the simulation, and RedisStore (with PrivateRedis where the user has no Redis).
//
//     Watch    ──> who leads, and whether it gives signs of life; what a standby looks at
//     TakeOver ──> epoch          one writer: the newest take-over; all others are fenced from then on
//     Load     ──> snapshot, then every batch after it, in order
//     Append   ──> one batch = one log entry = one fsync, for as many records as gathered meanwhile
//     Beat     ──> a sign of life where nothing is appended
//
// Redis layout; every key begins with "storyfarm:{<farm>}:", the braces keep one farm in one cluster slot:
//     version    of this layout
//     epoch      counter, raised by each take-over
//     log        stream; entry <sequence>-0 has one field "b", a serialized RecordBatch
//     head       sequence of the log's last entry, also when the log was trimmed to nothing
//     leader     hash: name of who took over last (empty: it let go), beats counted by its signs of life
//     snapshot   hash: sequence, pieces; absent at first
//     snapshot:<sequence>   hash: piece number -> at most 8 MB of State
//     writing    sequence of a snapshot that is being written and not yet pointed to
//     archive    hash: job id -> serialized JobArchive
// Every write goes through a Lua script that compares the epoch first, so a fenced writer changes nothing.
//
// What Redis does when it fares badly, and what follows:
//     killed, restarted     an append's outcome is unknown; sent again, it is in the log once
//     silent                as killed: after the time-out the connection is thrown away
//     out of memory         refuses (noeviction) and writes nothing: tried again until there is room
//     disk full             with appendfsync always it ends rather than lie; started again, it cuts the half-written
//                           entry off its file, which nobody had acknowledged
//     its file cut short    what is left is a prefix of the log. Whoever knew more gets kGap, and says so
//
// Threads: one store object serves one thread at a time; calls block.
#ifndef STORYFARM_COORDINATOR_STORE_STORE_H_
#define STORYFARM_COORDINATOR_STORE_STORE_H_

#include <cstddef>
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

// Who leads, as one that waits for its turn sees it. Any change is a sign of life.
struct Leadership {
  uint64_t epoch = 0;  // of the newest take-over; 0: there was none
  uint64_t head = 0;   // sequence of the log's last batch
  uint64_t beats = 0;
  std::string leader;  // the name that it gave its store; empty: it let go, or nobody ever led
};

// What Load found: the last sequence in the log (0: empty), after which the next Append goes.
struct LogEnd {
  uint64_t sequence = 0;
};

class Store {
 public:
  virtual ~Store() = default;

  // Who leads now. Reads only; needs no TakeOver. UNAVAILABLE where the store can't be reached.
  virtual absl::StatusOr<Leadership> Watch() = 0;

  // Becomes the one writer and returns the new epoch. With `only_after`: only where the newest take-over is still this
  // one, so that of several that wait only one leads; ABORTED otherwise. UNAVAILABLE where the store can't be reached,
  // or did not answer: then look with Watch whose name stands there.
  virtual absl::StatusOr<uint64_t> TakeOver(std::optional<uint64_t> only_after) = 0;
  absl::StatusOr<uint64_t> TakeOver() { return TakeOver(std::nullopt); }

  // A sign of life. ABORTED: fenced.
  virtual absl::Status Beat() = 0;
  // Takes its name away, so that the next one need not wait for silence. Still the writer until somebody takes over.
  virtual absl::Status LetGo() = 0;

  // Hands over the newest snapshot, if there is one, then every later batch in order. Reads only.
  // DATA_LOSS names a gap or a damaged entry; an error of a callback ends the load and is returned.
  virtual absl::StatusOr<LogEnd> Load(const std::function<absl::Status(const Snapshot&)>& on_snapshot,
                                      const std::function<absl::Status(const farm::v1::RecordBatch&)>& on_batch) = 0;

  // Makes one batch durable. `batch.sequence` is one more than that of the batch before. Needs TakeOver.
  virtual AppendResult Append(const farm::v1::RecordBatch& batch) = 0;

  // A snapshot is written in pieces, so that appends go between them, and counts from the switch on, which also drops
  // the log entries and the snapshot that it replaces; batches after `sequence` stay. BeginSnapshot forgets one that
  // was begun and not switched to; ALREADY_EXISTS: one as new is in place. SwitchSnapshot: INVALID_ARGUMENT where the
  // log does not reach `sequence`, but an empty store takes any snapshot and goes on after it: so a backup comes back.
  // All of them: ABORTED: fenced. Each may be sent again after an unknown outcome.
  virtual absl::Status BeginSnapshot(uint64_t sequence) = 0;
  virtual absl::Status PutSnapshotPiece(uint64_t sequence, size_t number, const std::string& bytes) = 0;
  virtual absl::Status SwitchSnapshot(uint64_t sequence, size_t pieces) = 0;
  // All of the above; OK where one as new is in place.
  absl::Status SaveSnapshot(const Snapshot& snapshot);

  // Finished jobs, by job id. Writing the same job again replaces it. PutArchive returns when durable;
  // ABORTED: fenced. GetArchive: NOT_FOUND where there is none.
  virtual absl::Status PutArchive(const std::string& job_id, const farm::v1::JobArchive& body) = 0;
  virtual absl::StatusOr<farm::v1::JobArchive> GetArchive(const std::string& job_id) = 0;
  // OK when durably gone, also where it was not there; ABORTED: fenced.
  virtual absl::Status RemoveArchive(const std::string& job_id) = 0;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_STORE_STORE_H_
