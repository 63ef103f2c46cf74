// The one thread that owns the farm's mind (coordinator/core), and the rule that nothing leaves it before the record
// that it depends on is durable. Behind server.h.
//
//   Ask, Look (clients: refused when the queue is full) ─┐
//   Tell (workers: one each)                             ├─> queues ─> Farm::Step ─┬─ records ─> Committer
//   clock ─────────────────────────────────── Tick ──────┘                        ├─ archives ─> Committer
//                                                                                 └─ messages, closes, replies
//                                                                                      │ wait, in order, for their
//                                                                                      record
//                                                   Committer: durable ────────────────┴─> Outputs, answers
//
// A turn takes what came since the last one: heartbeats first, as leases hang on them and they cost next to nothing; then
// clients' inputs before the workers', but at most half of them where both wait: people are few, and a thousand workers
// with results to tell are a queue of a thousand. Its records make one batch. A turn that found little is
// followed by the next one after kGatherMs, so that what a turn costs by itself (waking this thread, the store's, its
// Redis, the fold's) is shared by all that came meanwhile.
//
// The farm runs ahead of the store by what one group commit gathers. When the store stalls, the loop stops taking
// inputs once kUncommittedBytes wait for it; then the queue fills, clients are refused and workers' streams are not
// read. Where the store was taken over or a batch stays unresolved, the loop fails: everything that waits gets
// UNAVAILABLE, and nothing of what is in memory is used any more.
//
// Where another coordinator waits for its turn (leader_lease_ms), nothing leaves either unless this one is known to
// lead: the store confirmed it less than a lease ago, and who waits takes over only after a longer silence
// (leader_watch.h). So one that was frozen and wakes says nothing from a state that may be old: it hears first that it
// is deposed.
#ifndef STORYFARM_COORDINATOR_RPC_LOOP_H_
#define STORYFARM_COORDINATOR_RPC_LOOP_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/core/farm.h"
#include "coordinator/core/limits.h"
#include "coordinator/rpc/committer.h"
#include "coordinator/rpc/shared_specs.h"
#include "coordinator/rpc/snapshot_fold.h"
#include "coordinator/store/store.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

// What a stalled store may leave waiting in memory.
inline constexpr size_t kUncommittedBytes = size_t{64} << 20;
// Inputs taken at a time, besides heartbeats: short enough that a tick is never late by more than a few milliseconds.
inline constexpr size_t kInputsATurn = 256;
// Nobody notices so much on a way that ends with an fsync; a farm on which less is going on waits for nothing.
inline constexpr int64_t kGatherMs = 2;
// Shared by so many, what a turn costs by itself is next to nothing: the next one begins at once.
inline constexpr size_t kManyInputs = 32;

class Loop {
 public:
  struct Options {
    Limits farm;
    size_t queued_inputs = 10'000;
    SnapshotFold::Options snapshots;
    int64_t leader_lease_ms = 0;                        // 0: nobody else can take over
    std::function<absl::Status(Store&)> before_replay;  // runs after the take-over; may be empty
    std::optional<uint64_t> take_over_after;            // only where the newest epoch is this one; empty: in any case
  };
  // All of it outlives the loop.
  struct Parts {
    base::Env* env = nullptr;
    base::Log* log = nullptr;
    Store* store = nullptr;
    std::function<uint64_t()> random_bits;
  };
  // Called on the loop's thread; must not wait for anything.
  struct Outputs {
    std::function<void(uint64_t session, farm::v1::CoordinatorMessage message)> deliver;
    std::function<void(uint64_t session, const absl::Status& why)> close;
    std::function<void(const std::vector<std::string>& job_ids)> changed;  // not waiting for any record
    // Nothing more is called; OK after Drain. The last call.
    std::function<void(const absl::Status& why)> ended;
    // The whole roster after a change, durable.
    std::function<void(const std::vector<farm::v1::Member>& members)> members = {};
    // A job's end to be told outside (Decisions::notices), durable. Called only where Limits::notices asks for it.
    std::function<void(const farm::v1::JobNotice& notice)> notice = {};
    // On the store's thread: these records are durable, and how long a group commit took. May be empty.
    std::function<void(const farm::v1::RecordBatch& batch)> durable = {};
    std::function<void(int64_t ms)> committed = {};
  };

  // Takes the store over and replays it. Errors as the store says; DATA_LOSS where the log makes no sense, ABORTED
  // where somebody else took it over meanwhile.
  static absl::StatusOr<std::unique_ptr<Loop>> Load(const Options& options, const Parts& parts);
  ~Loop();

  // Starts the thread. Once.
  void Run(Outputs outputs);

  // ---- Any thread. Each callback given here is called exactly once: on the loop's thread, or, where it is refused, on
  // the caller's before the call returns.

  // An input of a client. `make` gets the number that the reply will carry. Refusals and failures come as the reply's
  // status: RESOURCE_EXHAUSTED where the queue is full, UNAVAILABLE where the loop stops or has failed.
  void Ask(std::function<Input(uint64_t request)> make, std::function<void(const Reply&)> answer);

  // A read. `look` takes what it needs of the farm; `answer` is called with OK when everything that it saw is durable,
  // and else with why not, as above; then `look` may not have been called.
  void Look(std::function<void(const Farm& farm, const Time& now)> look,
            std::function<void(const absl::Status&)> answer);

  // A look whose `done` is called at once: what it saw may not be durable yet, so nothing that follows from it may
  // leave this process but by a later input or look.
  void Peek(std::function<void(const Farm& farm)> look, std::function<void(const absl::Status&)> done);

  // An input of a worker's session, never refused: the caller sees to it that few are waiting. `taken` (may be empty)
  // is called when the farm has seen it; not where the loop stops first.
  void Tell(Input input, std::function<void()> taken);

  // Packs a story before it is asked to be accepted: while the result is held, the loop need not do it. Any thread.
  std::shared_ptr<const PackedSpec> Pack(const farm::v1::JobSpec& spec) { return specs_.Keep(spec); }

  // A finished job from the store's archive; `done` is called on the store's thread. NOT_FOUND where there is none.
  void ReadArchive(const std::string& job_id, std::function<void(absl::StatusOr<farm::v1::JobArchive>)> done);
  // The same, waited for: not on the loop's thread, nor on the store's.
  absl::StatusOr<farm::v1::JobArchive> ReadArchive(const std::string& job_id);

  // What is durable, as of one batch of the log, on a thread of its own that may be kept for a while; null where the
  // loop ends before.
  void LookAtDurable(std::function<void(const Farm* farm, uint64_t sequence)> look) { fold_->Look(std::move(look)); }

  // Whether this process leads for certain at this moment. Any thread.
  bool leads();
  // Digests that were condemned when the log was replayed. Before Run.
  std::vector<std::string> CondemnedBlobs() const { return farm_.CondemnedBlobs(); }
  // The roster as it was then. Before Run.
  std::vector<farm::v1::Member> Members() const { return farm_.ListMembers(); }

  // Takes nothing more, answers what it has taken, then ends. Returns at once.
  void Drain();
  // Ends at once; what waits is answered UNAVAILABLE. Returns when the thread has ended. Not from the loop's thread.
  void Stop();

 private:
  struct Asked {
    std::function<Input(uint64_t)> make;
    std::function<void(const Reply&)> answer;
  };
  struct Looked {
    std::function<void(const Farm&, const Time&)> look;
    std::function<void(const absl::Status&)> answer;
  };
  struct Peeked {
    std::function<void(const Farm&)> look;
    std::function<void(const absl::Status&)> done;
  };
  struct Told {
    Input input;
    std::function<void()> taken;
  };
  using Item = std::variant<Asked, Looked, Peeked, Told>;
  // Leaves when `after_record` is durable and everything before it has left. OK: now; else it never will.
  struct Waiting {
    uint64_t after_record = 0;
    absl::AnyInvocable<void(const absl::Status&)> leave;
  };

  Loop(const Options& options, const Parts& parts);
  absl::Status Replay();
  void Main();
  // Empty where the loop shall go on; else why it ends (OK: drained).
  std::optional<absl::Status> Turn();
  // Lets things come until the next turn is due.
  void Gather(std::unique_lock<std::mutex>& lock);
  std::deque<Item> TakeItems();  // holds mutex_
  void Queue(Item item);         // holds mutex_; in the queue that it belongs to
  void Handle(Item item);
  // A client's input joins the queue; else why not.
  absl::Status Enqueue(Item item);
  void Carry(Decisions decisions);
  // Hands the turn's records to the store's thread.
  void Commit();
  void ReleaseDurable();
  // Whether nobody else can have taken over yet.
  bool Leads() const;  // holds mutex_
  void FailWaiting(const absl::Status& why);
  // Refuses what can't be taken now: empty where it can.
  absl::Status Refusal() const;  // holds mutex_
  void Fail(const absl::Status& why);
  Time Now() const;

  const Options options_;
  const Parts parts_;
  const PipelinePlanner planner_;
  SharedSpecs specs_;
  Outputs outputs_;

  // The loop's thread only.
  Farm farm_;
  int64_t next_tick_ms_ = 0;
  int64_t next_turn_ms_ = 0;               // not before
  std::vector<farm::v1::Record> records_;  // of this turn
  uint64_t next_request_ = 1;
  std::map<uint64_t, std::function<void(const Reply&)>> answers_;
  std::deque<Waiting> waiting_;
  uint64_t released_record_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool gathering_ = false;  // what comes need not wake the loop: it looks soon
  std::deque<Item> heard_;  // heartbeats
  std::deque<Item> asked_;  // by clients
  std::deque<Item> told_;   // by workers and the store
  uint64_t durable_record_ = 0;
  int64_t led_ms_ = 0;  // when this process led for certain
  bool running_ = false;
  bool draining_ = false;
  std::optional<absl::Status> end_;  // why the loop must end at once

  // Replay leaves these behind for Run.
  std::unique_ptr<Farm> second_farm_;
  uint64_t sequence_ = 0;

  std::unique_ptr<SnapshotFold> fold_;
  std::unique_ptr<Committer> committer_;
  std::thread thread_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_LOOP_H_
