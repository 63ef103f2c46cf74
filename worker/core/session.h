// The worker's mind: what it holds, what it runs on which device, and what it still owes the coordinator. A pure state
// machine like the coordinator's: for worker/agent, which feeds it from gRPC, engines, disk and clock, and for tests,
// which feed it from a seed.
//
//   coordinator ──messages──┐                       ┌── Send ────────> coordinator
//   engines ──────events────┼─> Session::Step ──────┼── Prepare, Measure, StartRun, StopEngine, StartEngine ─> engines
//   disk, transfers ─done───┤    (now, Event)       ├── Persist, Clear ──> outbox on disk
//   clock ────────tick──────┘     -> Actions        └── Upload ──────────> blobs
//
// A group (one Grant) goes
//
//   Grant ─> Prepare ─> Prepared ─> waits for its device ─> Measure ─> Run a slice ... Run the last slice ─> forgotten
//                                                                      │ each FrameStored, RunEnded
//                                                                      v
//   a finished task:  Persist ─> Persisted ─> Upload its blobs ─> Result ─> Accepted or Stale ─> Clear
//
// A slice is what one engine request renders: plan.batch frames where weights stay resident, the whole group where each
// request would load them again. An engine gets its next slice at the last step of the one before, so that it decodes,
// encodes and goes on without waiting for anybody; pages are composed beside that, but where they would take of the
// device's own memory. Frames of slices that no engine has can be trimmed or revoked without disturbing it.
//
// What it promises:
//  1. A result is on disk before it is sent, and leaves the disk only for ACCEPTED or STALE. Every Hello names it. The
//     one exception: its files are gone from the cache and the coordinator lacks them. Then the task is reported as a
//     fault.
//  2. Nothing but Hello is sent before Welcome. What Welcome drops is stopped; what it wants is sent.
//  3. Only tasks whose engine is within its deadline are renewed. An engine silent beyond what this model's steps ever
//     took (limits.h) is stopped, and its tasks reported HUNG.
//  4. A group whose plan exceeds what the device has free now is reported OUT_OF_MEMORY with both numbers, not tried.
//  5. While the owner wants the machine for themselves (OwnerSays) no engine runs and nothing is held: what ran is
//     reported PREEMPTED, and goes elsewhere. The stream and the outbox go on. Where OwnerSays lets it finish, the
//     slices that run go on, and only what has not begun goes elsewhere.
//  6. What the coordinator's limits forbid (Welcome, CoordinatorMessage.limits) is given back likewise: groups whose plan
//     takes more memory, groups of devices that are not lent. Engines that hold more, or whose device is not lent, end.
//  7. Nobody is admitted to the cache over the network but by the coordinator's word (Admit), and nobody at all once that
//     is older than a lease: who was removed meanwhile would not be known.
//  8. At most Limits::groups_a_device groups a device are held; one too many goes back at once.
//
// Threads: none; call everything from one. No clock, no randomness, no I/O.
#ifndef STORYFARM_WORKER_CORE_SESSION_H_
#define STORYFARM_WORKER_CORE_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "farm/v1/device.pb.h"
#include "farm/v1/limits.pb.h"
#include "farm/v1/record.pb.h"
#include "farm/v1/session.pb.h"
#include "farm/v1/work.pb.h"
#include "worker/core/limits.h"

namespace storyfarm::worker {

// ---- Events -------------------------------------------------------------------------------------------------------

// The stream is open; `cached` are digests of large blobs that the cache holds, the most recently used first.
struct Connected {
  std::vector<std::string> cached;
};
struct Disconnected {};
struct CoordinatorSaid {
  farm::v1::CoordinatorMessage message;
};
// Time passed. Send one at least every kTickMs.
struct Tick {};

// Answers to Prepare: every input of the group lies in the cache, or it can't be had.
struct Prepared {
  farm::v1::FencingToken token;
};
struct PrepareFailed {
  farm::v1::FencingToken token;
  farm::v1::Failure failure;
};
// A step that Follow named can't be had.
struct FollowFailed {
  farm::v1::FencingToken token;
  farm::v1::Failure failure;
};
// Live memory of a device: the answer to Measure, and from time to time for the heartbeat.
struct MemoryMeasured {
  uint32_t device = 0;
  farm::v1::DeviceMemory memory;
};

// What a running slice's engine said, after the agent put the files it names into the cache. `run` is StartRun::run:
// events of runs that were stopped are ignored.
struct StepReached {
  uint64_t run = 0;
  std::vector<uint32_t> panels;
  uint32_t step = 0;
  uint32_t steps = 0;
};
struct FrameStored {
  uint64_t run = 0;
  bool hidden = false;           // of an identity pass: no panel, counts for nothing but progress
  farm::v1::FrameResult result;  // complete
};
struct BankStepStored {
  uint64_t run = 0;
  uint32_t step = 0;
  farm::v1::BlobRef blob;  // no digest: nobody reads this step
};
struct TextStored {
  uint64_t run = 0;
  farm::v1::BlobRef embeddings;
};
struct PagesStored {
  uint64_t run = 0;
  farm::v1::PageResult result;
};
struct RunEnded {
  uint64_t run = 0;
  uint64_t render_ms = 0;
  uint64_t peak_bytes = 0;
};
struct RunFailed {
  uint64_t run = 0;
  farm::v1::Failure failure;
};
// The device's engine is ready, or is no more and why. Until the first EngineReady no group starts; the agent starts
// the first engines by itself, to ask them for their reports.
struct EngineReady {
  uint32_t device = 0;
};
struct EngineEnded {
  uint32_t device = 0;
  farm::v1::Failure failure;
};

struct Persisted {
  farm::v1::FencingToken token;
  farm::v1::TaskId task;
};
// The outbox could not be written: the disk is full or broken. The result is lost and the task reported.
struct PersistFailed {
  farm::v1::FencingToken token;
  farm::v1::TaskId task;
  farm::v1::Failure failure;
};
struct Uploaded {
  std::string digest;
};
// `lost`: the cache holds it no longer, so that no later try can do better. Every Upload is answered once.
struct UploadFailed {
  std::string digest;
  std::string why;
  bool lost = false;
};

// Whether the machine may work by what its owner allows, at the start and whenever that changes; also the answer to each
// Limit. `resting`: why not, as Heartbeat.resting; empty: it may. `finish`: what runs may end first. `limits`: the number
// of the last Limit that it counts with.
struct OwnerSays {
  std::string resting;
  bool finish = false;
  uint64_t limits = 0;
};

// Finish what runs, give back the rest, deliver the outbox, then Drained.
struct Drain {};

using Event = std::variant<Connected, Disconnected, CoordinatorSaid, Tick, Prepared, PrepareFailed, FollowFailed,
                           MemoryMeasured, StepReached, FrameStored, BankStepStored, TextStored, PagesStored, RunEnded, RunFailed,
                           EngineReady, EngineEnded, Persisted, PersistFailed, Uploaded, UploadFailed, OwnerSays, Drain>;

// ---- Actions ------------------------------------------------------------------------------------------------------

struct Send {
  farm::v1::WorkerMessage message;
};
// Bring every input of this group into the cache and pin it: answer Prepared or PrepareFailed.
struct Prepare {
  farm::v1::FencingToken token;
  uint32_t device = 0;
  farm::v1::Work work;
  std::vector<farm::v1::Peer> peers;  // that should have some of the inputs
};
// A further step of a bank that this group reads while it is computed elsewhere: bring the blob into the cache, pin it
// for the group and give it to the group's runs. Answer FollowFailed where it can't be had.
struct Follow {
  farm::v1::FencingToken token;
  uint32_t character = 0;
  uint32_t step = 0;
  farm::v1::BlobRef blob;  // no digest: nobody reads this step
  farm::v1::Peer writer;   // empty address: only the coordinator has it
};
// The group is over: its inputs need no longer be pinned, and a Prepare still under way may stop.
struct Release {
  farm::v1::FencingToken token;
};
// Ask the device's engine for its live memory now: answer MemoryMeasured (or EngineEnded).
struct Measure {
  uint32_t device = 0;
};
struct StartRun {
  uint64_t run = 0;  // names this run in events; never used again
  uint32_t device = 0;
  farm::v1::FencingToken token;
  farm::v1::TaskId task;  // the first, for logs
  farm::v1::Work work;    // the slice's
};
// End the device's engine now, whatever it does. Answer: EngineEnded.
struct StopEngine {
  uint32_t device = 0;
};
// Start an engine for the device. Answer: EngineReady or EngineEnded.
struct StartEngine {
  uint32_t device = 0;
};
// Write the result to the outbox, durably, and pin the blobs that it names: answer Persisted or PersistFailed. Persist,
// Clear and Release are carried out in the order in which they came.
struct Persist {
  farm::v1::Result result;
};
struct Clear {
  farm::v1::FencingToken token;
  farm::v1::TaskId task;
};
// Make this blob, which the cache holds, durable at the coordinator: answer Uploaded or UploadFailed.
struct Upload {
  farm::v1::BlobRef blob;
};
// What the farm's admin lets it take of this machine, in place of what the Limit before said, on top of what the worker
// was started with: from now on no device's live memory says more, and hours, power and use are asked for. Answer:
// OwnerSays with this number; until then no group starts.
struct Limit {
  uint64_t number = 0;
  farm::v1::WorkerLimits limits;
};
// Whose certificates may read this worker's cache from now on: where `whole`, those that are added and no others.
struct Admit {
  bool whole = false;
  farm::v1::ReadersChanged change;
};
// What frames told of a device's speed, all that is known of it (DeviceReport.speeds): keep it for the next start.
struct KeepSpeeds {
  uint32_t device = 0;
  std::vector<farm::v1::ModelSpeed> speeds;
};
// The draining is over: leave.
struct Drained {};
// One line for the log.
struct Note {
  bool warning = false;
  std::string text;
  farm::v1::FencingToken token;
  farm::v1::TaskId task;
};

using Action = std::variant<Send, Prepare, Follow, Release, Measure, StartRun, StopEngine, StartEngine, Persist, Clear, Upload,
                            Limit, Admit, KeepSpeeds, Drained, Note>;
using Actions = std::vector<Action>;

// ---- The machine --------------------------------------------------------------------------------------------------

// Who this worker is; fixed for the process. Devices are numbered by their reports' `index`, each at most once; a
// report's `speeds` are what KeepSpeeds kept.
struct Self {
  std::string software_version;
  std::string node_id;
  std::string node_name;
  uint64_t process = 0;  // drawn at its start; 0: not told
  std::string blob_address;  // where other workers of this machine read its cache; empty: nowhere
  uint32_t peer_port = 0;    // where those of others do; 0: nowhere
  std::string peer_host;     // that they are told; empty: as the coordinator sees this machine
  std::vector<farm::v1::DeviceReport> devices;
};

class Session {
 public:
  // `outbox` is what an earlier process of this node finished and could not deliver; it is already on disk.
  Session(Self self, std::vector<farm::v1::Result> outbox, const Limits& limits = Limits());
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Takes one event and says what to do, in order. `now_ms` is monotonic and may not go back.
  Actions Step(int64_t now_ms, Event event);

  // Results finished and not answered.
  size_t outbox_size() const;
  // Tasks granted and not finished.
  size_t held_tasks() const;
  // Whether something is held whose lease may still run: false, too, where the coordinator has not been heard of for as
  // long as a lease lasts.
  bool leased() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// Digests of all blobs that a result names.
std::vector<farm::v1::BlobRef> BlobsOf(const farm::v1::Result& result);

// Blobs that a work reads, each once: those of the model's files that it needs (pipeline/plan/model_use.h), banks,
// embeddings, images, fonts.
std::vector<farm::v1::BlobRef> InputsOf(const farm::v1::Work& work);

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_CORE_SESSION_H_
