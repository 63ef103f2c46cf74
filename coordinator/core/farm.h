// The farm's mind: a deterministic state machine that accepts jobs, grants their tasks to devices and takes results.
// For coordinator/rpc, which feeds it from gRPC and the clock, and for the simulation, which feeds it from a seed.
//
//   gRPC, clock ──Input──> Farm::Step ──Decisions──┬─ records ──> store::Append (durable, in order)
//                             │   ▲                ├─ messages ─> workers    } each waits until the record that
//                          Apply  │                └─ replies ──> storyctl   } it names is durable
//                             ▼   │
//     records (replay) ──> State, Soft
//
// State is the fold of the records: only Apply changes it, so that replaying the log gives the same bytes
// (SerializeState). Soft (sessions, leases, progress, live memory, measured speed) is never stored; a restarted
// coordinator learns it again from the workers' Hellos, and gives every running attempt one fresh lease meanwhile.
//
// A frame's life (identity and page tasks live the same one):
//
//                 identity done                  Granted(token)
//     BLOCKED ───────────────────> READY ──────────────────────────> GRANTED
//        │                          │ ▲                               │  │ │
//        │ identity failed          │ └──────── TaskReturned ─────────┘  │ │
//        │                          │   lease over, fault, trimmed: the  │ │
//        │                          │   token stays with the frame       │ │
//        │                          └────── Finished(same token) ──┐     │ │ Finished(same token)
//        │                                     a late result       ▼     │ ▼
//        │                                                       DONE <──┼─┘
//        └──────────────> FAILED <──────────────── TaskFailed ───────────┘
//     and JobCancelled takes whatever is not DONE or FAILED to CANCELLED. TasksRetried takes FAILED back to READY or
//     BLOCKED, where a person asks for it (retrying.cc), and with it the pages that show stand-ins.
//     An identity becomes DONE by PackUsed, too, from READY or BLOCKED and without any grant (packs.cc). Where blobs of
//     its bank are lost later, IdentityReopened takes it back to READY, and READY frames that read it to BLOCKED.
//     Where a job has text tasks, identities and frames are BLOCKED until the one with their prompts is done: by a
//     result, by TextTaken, or without either where all that would read it is final (texts.cc).
//     A BLOCKED frame whose missing identities are all GRANTED may be GRANTED ahead of them. Where one of these comes
//     back the frame does, too, and its token is void (wavefront.cc).
//
// The protocol of tokens and outboxes, argued as a TLA+ specification would be. Anything but Log and Box may vanish at
// any moment; tests/sim plays all of it by seed and holds it against these invariants.
//
//   Log      the durable records, of which State is the fold. Cur(f): token of the last Granted of f in it. Done(f):
//            token of its Finished, or none
//   Box(n)   on n's disk: results (f, t), finished under t and not answered. Held(n), in its memory: (f, t)
//   Said     messages on their way: lost, doubled, late, out of order, of streams long replaced
//
//   TakeOver      draw a fresh incarnation, append it. From then on the store takes nothing from any earlier leader
//   Grant(f, n)   f is READY, or goes ahead: append Granted(f, t, n) with a t never used; once durable say Grant(f, t)
//   Finish(n)     (f, t) in Held(n): into Box(n), durably; then its blobs go up; then say Result(f, t)
//   Take(f, t)    Result(f, t) came by n's current stream, Cur(f) = t, f is not final, its blobs are durable: append
//                 Finished(f, t); once durable say Accepted(f, t)
//   Forgo(f)      f is an identity or a text task, waits, and a pack or embeddings of its key are there, or DONE, and
//                 what it made is lost: append PackUsed or TextTaken, or that it was reopened. f is FAILED, or a page
//                 with a stand-in for such a one, and a person asks once more: append TasksRetried. Cur(f) is none, so
//                 that no result made before is taken
//   Refuse(f, t)  n names (f, t), and Cur(f) /= t or f is final: say Stale(f, t), or Accepted where Done(f) = t, once
//                 all that this follows from is durable
//   Clear(n)      Accepted(f, t) or Stale(f, t) came: (f, t) leaves Box(n)
//   Return(f)     f is GRANTED and t had no news by a current stream for a lease, or n's Hello lacks it, or n gave it
//                 back: append Returned. f is READY; Cur(f) stays t, so that a late result is still taken. Every word
//                 of n's current stream is news of what n was granted on it or listed last. Of an f that went ahead
//                 Cur(f) is none: what it would make is of a writer that may be replaced
//   Lose(n)       n dies: Held(n) is empty, and Box(n) with its disk
//
//   I1  A token is granted for one group on one node, once. Numbers rise within an incarnation, incarnations never
//       repeat, and Granted of a deposed leader is not appended. So Cur(f) /= t stays true for ever once it is true.
//   I2  Done(f) is set at most once, and to Cur(f): Take demands both of Log, which no restart forgets. So no frame is
//       counted twice, and none under a token that was replaced, whatever Said does.
//   I3  (f, t) in Held, Box or Said implies Granted(f, t, n) in Log: Grant speaks after its append. So a restarted
//       coordinator knows every token that it hears of.
//   I4  (f, t) leaves Box only if Done(f) = t, or no Take(f, t) can ever happen again (I1; final is final): what Clear
//       hears was durable before it was said. So a finished result is in Log, in Box, or wanted by nobody.
//   I5  A leader says nothing after another TakeOver: it speaks only within its lease, and who waits waits longer
//       (coordinator/rpc/leader_watch.h). So what Refuse says holds of the Log that counts.
//   Liveness, once faults end: leases return what nobody holds, READY is granted, Box is named in every Hello and its
//   results are said again until they are answered. So every f comes to be final and every Box empty.
//
// Threads: none; call everything from one thread. No clock, no randomness, no I/O: time and seeds come in.
#ifndef STORYFARM_COORDINATOR_CORE_FARM_H_
#define STORYFARM_COORDINATOR_CORE_FARM_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/core/limits.h"
#include "coordinator/core/planner.h"
#include "coordinator/core/spec_shelf.h"
#include "farm/v1/client.pb.h"
#include "farm/v1/figures.pb.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/pack.pb.h"
#include "farm/v1/record.pb.h"
#include "farm/v1/session.pb.h"
#include "farm/v1/trust.pb.h"

namespace storyfarm::coordinator {

// What the clocks say at a Step. The monotonic one decides everything; the other is only written into records.
struct Time {
  int64_t monotonic_ms = 0;  // may not go back between Steps
  uint64_t unix_ms = 0;
};

// ---- Inputs -------------------------------------------------------------------------------------------------------

// The first input of a process, after replay: it took over the store. No other is allowed before it.
struct Started {
  uint64_t incarnation = 0;  // 64 random bits, never 0
  uint64_t seed = 0;         // breaks ties
};
// A pack (Farm::FindPack) some of whose blobs are not in the blob store.
struct LostPack {
  std::string key;
  std::string job_id;  // PackManifest.job_id: which one it was
};
// `request` names the reply (Reply::request); the caller draws it, unique among the outstanding ones.
struct SubmitJob {
  uint64_t request = 0;
  farm::v1::JobSpec spec;  // complete: expanded by pipeline/plan, with a job_id drawn by the caller
  std::vector<LostPack> lost_packs;  // of those whose keys the spec names
};
struct CancelJob {
  uint64_t request = 0;
  std::string job_id;
};
// Pauses, resumes or moves a job in the queue; what is not given stays.
struct ChangeJob {
  uint64_t request = 0;
  std::string job_id;
  std::optional<bool> paused;
  std::optional<uint32_t> priority;
};
// Asks once more for what failed of a job, also of one that ended so and is still hot.
struct RetryJob {
  uint64_t request = 0;
  std::string job_id;
  std::optional<farm::v1::TaskId> task;  // that one, and what failed with it; else all that failed
};
// Takes a machine out of the farm, or gives it back.
struct DrainNode {
  uint64_t request = 0;
  std::string node;  // id or name
  bool drained = true;
  bool at_once = false;  // what runs there is stopped and goes elsewhere, too
};
// Changes what the farm may take of a machine; what it runs beyond that it gives back by itself. INVALID_ARGUMENT where
// a limit can't be read; FAILED_PRECONDITION where the machine could draw with no model any more.
struct LimitNode {
  uint64_t request = 0;
  farm::v1::LimitNodeRequest change;
};
// Grants nothing more until it is told otherwise; what was granted goes on. `why`: a sentence for people; empty: go on.
struct HoldDispatch {
  std::string why;
};
// Forgets a job that has ended: its records, its archive, its key. Its blobs may go (CondemnBlobs).
struct ForgetJob {
  uint64_t request = 0;
  std::string job_id;
};
// Blobs that are among no LiveBlobs and in no archive, and that nobody was told to be present lately
// (coordinator/blob). Once the reply has come their files may go; then tell BlobsUnlinked.
struct CondemnBlobs {
  uint64_t request = 0;
  std::vector<std::string> digests;
};
struct BlobsUnlinked {
  uint64_t request = 0;
  std::vector<std::string> digests;
};
// Gives a pack a name, in place of the one that it has. `pack`: name or beginning of its key.
struct NamePack {
  uint64_t request = 0;
  std::string pack;
  std::string name;
};
// Removes a pack that no live job needs.
struct ForgetPack {
  uint64_t request = 0;
  std::string pack;
};
struct AddModel {
  uint64_t request = 0;
  farm::v1::ModelManifest model;  // with profile; its blobs are durable
};
// Which authority vouches for the members from now on. FAILED_PRECONDITION while there are members of another.
struct ChooseAuthority {
  uint64_t request = 0;
  std::string digest;  // SHA-256 of its certificate
};
// Who showed a code, and the certificate's serial that it is about to get. A worker takes the place of the one that had
// its node id before.
struct AddMember {
  uint64_t request = 0;
  farm::v1::Member member;  // complete, its id drawn by the caller
};
// `member`: a name or an id.
struct RenameMember {
  uint64_t request = 0;
  farm::v1::MemberKind kind = farm::v1::MEMBER_KIND_UNSPECIFIED;
  std::string member;
  std::string name;
};
struct RenewMember {
  uint64_t request = 0;
  std::string member_id;
  std::string asked_with_serial;
  std::string serial;
  uint64_t expires_unix_ms = 0;
};
// Its certificates count no more; what a worker holds goes elsewhere at once.
struct RemoveMember {
  uint64_t request = 0;
  farm::v1::MemberKind kind = farm::v1::MEMBER_KIND_UNSPECIFIED;
  std::string member;
};
// A worker opened a stream. `session` is drawn by the caller and never used again in this process.
struct WorkerConnected {
  uint64_t session = 0;
  farm::v1::Hello hello;
  std::string member_id;  // whose certificate it came with; empty: from this machine, without one
};
struct WorkerSaid {
  uint64_t session = 0;
  farm::v1::WorkerMessage message;  // not Hello
  // Of a Result: digests it names that the blob store does not hold durably. The farm then answers BLOBS_MISSING,
  // or STALE where nobody wants the result any more. Of a TaskFault: the blob that it lacked, where the blob store does
  // not hold it whole either: an identity whose bank it is of is then computed again.
  std::vector<std::string> missing_digests;
};
struct WorkerGone {
  uint64_t session = 0;
};
// Time passed. Send one at least every kTickMs.
struct Tick {};
// The job's archive, offered earlier in Decisions::archives, is durable in the store.
struct ArchiveStored {
  std::string job_id;
};
// Whoever was to be told of a job's end, offered earlier in Decisions::notices, was; or it was given up after `tries`.
struct NoticeAnswered {
  std::string job_id;
  uint64_t finished_unix_ms = 0;  // of the end that was told: a job that is retried ends again
  bool delivered = false;
  uint32_t tries = 0;
  std::string why;  // it was given up
};
// The archive of a forgotten job, named earlier in Decisions::dropped_archives, is gone from the store.
struct ArchiveRemoved {
  std::string job_id;
};

using Input = std::variant<Started, SubmitJob, CancelJob, ChangeJob, RetryJob, DrainNode, LimitNode, HoldDispatch,
                           ForgetJob, CondemnBlobs, BlobsUnlinked, NamePack, ForgetPack, AddModel, ChooseAuthority,
                           AddMember, RenameMember, RenewMember, RemoveMember, WorkerConnected, WorkerSaid, WorkerGone,
                           Tick, ArchiveStored, ArchiveRemoved, NoticeAnswered>;

// ---- Decisions ----------------------------------------------------------------------------------------------------

// Records are numbered from 1 over the log's whole life. What carries `after_record` may leave only when all records up
// to that number are durable.
struct OutgoingMessage {
  uint64_t session = 0;
  uint64_t after_record = 0;
  farm::v1::CoordinatorMessage message;
};
// End this stream, after the messages before it.
struct CloseSession {
  uint64_t session = 0;
  uint64_t after_record = 0;
  absl::Status status;
};
struct Reply {
  uint64_t request = 0;
  uint64_t after_record = 0;
  absl::Status status;   // the answer if not OK
  // Of SubmitJob, CancelJob, ChangeJob and RetryJob; the node's id of DrainNode and LimitNode; the key of NamePack; the
  // member's id.
  std::string job_id;
  bool existed = false;  // SubmitJob: the key was known
  std::vector<std::string> warnings;  // LimitNode: sentences
};
// A finished job to put into the store's archive; then tell ArchiveStored. Offered again after a restart.
struct Archive {
  std::string job_id;
  uint64_t after_record = 0;
  farm::v1::JobStatus status;
  std::shared_ptr<const PackedSpec> spec;
  // For a full story this takes a while.
  farm::v1::JobArchive Body() const;
};

// A job was forgotten: take its archive out of the store, if there is one; then tell ArchiveRemoved. Named again after
// a restart.
struct DroppedArchive {
  std::string job_id;
  uint64_t after_record = 0;
};

// A job's end to be told outside; then tell NoticeAnswered. Offered again after a restart: whoever is told may hear of
// one end more than once, but of each.
struct Notice {
  uint64_t after_record = 0;
  farm::v1::JobNotice body;
};

struct Decisions {
  std::vector<farm::v1::Record> records;  // already applied here; append them in this order, before anything later
  std::vector<OutgoingMessage> messages;  // in order for each session
  std::vector<CloseSession> closes;
  std::vector<Reply> replies;
  std::vector<Archive> archives;
  std::vector<DroppedArchive> dropped_archives;
  std::vector<Notice> notices;
  bool members_changed = false;  // ListMembers differs now
  std::vector<std::string> changed_jobs;  // whose JobStatus may differ now: for watchers; sorted, no repeats
};

// ---- The machine --------------------------------------------------------------------------------------------------

enum class JobPlace { kUnknown, kHot, kArchived };

struct JobListing {
  std::string job_id;
  bool archived = false;  // its status lies in the store's archive
};

using BlobSizes = std::map<std::string, uint64_t>;  // by digest

class Farm {
 public:
  // `planner` and `shelf` outlive the farm. Farms that fold one log may have one shelf; null: each spec for itself.
  explicit Farm(const Planner* planner, const Limits& limits = Limits(), SpecShelf* shelf = nullptr);
  ~Farm();
  Farm(const Farm&) = delete;
  Farm& operator=(const Farm&) = delete;

  // Replay: folds one record from the log into State. Only before Started.
  // DATA_LOSS with a sentence if the record cannot follow those before it; the farm must then not be used.
  absl::Status Apply(const farm::v1::Record& record);

  // State as bytes: equal states give equal bytes. LoadState takes them on a fresh farm in place of the records that
  // made them. Split in pieces of at most kSnapshotPieceBytes; DATA_LOSS if they are damaged or from another version.
  std::vector<std::string> SerializeState() const;
  absl::Status LoadState(const std::vector<std::string>& pieces);

  // For debug builds: DATA_LOSS unless `second`, another fold of the same log, and a load of what this one serializes
  // give the same bytes.
  absl::Status CheckReplay(const Farm& second) const;

  // Takes one input and says what follows from it. Bad input changes nothing and gets a reply or a close that says why.
  Decisions Step(const Time& now, Input input);

  // Number of the last record that State holds: what a reply to a read depends on.
  uint64_t last_record() const;

  // ---- Reads. Each answers from State and Soft as they are now; its reply must wait for last_record().

  JobPlace FindJob(const std::string& job_id) const;
  // NOT_FOUND where the job is unknown or archived (see FindJob).
  absl::StatusOr<farm::v1::JobStatus> GetJob(const Time& now, const std::string& job_id, bool with_tasks) const;
  // What was accepted. Null where unknown or archived.
  std::shared_ptr<const PackedSpec> FindSpec(const std::string& job_id) const;
  // Newest first. `page_token` is empty or the one given with the page before; INVALID_ARGUMENT for any other.
  absl::StatusOr<std::vector<JobListing>> ListJobs(size_t page_size, const std::string& page_token,
                                                   std::string* next_page_token) const;
  // Jobs with work left, in the order in which they are served: the highest priority first, then the oldest.
  std::vector<std::string> LiveJobs() const;
  // The job that a key made, hot or archived, if the key is still known; `request_digest` gets what it was made of.
  std::optional<std::string> FindKey(const std::string& idempotency_key, std::string* request_digest) const;
  std::vector<farm::v1::NodeStatus> ListNodes(const Time& now) const;
  // Of one that has not been there since the coordinator started it knows only what a person said of it.
  farm::v1::NodeStatus GetNode(const Time& now, const std::string& node_id) const;
  // Why a task waits, or why it went where it went. NOT_FOUND where there is no such task, or its job has left for the
  // archive.
  absl::StatusOr<farm::v1::Explanation> Explain(const Time& now, const farm::v1::TaskId& task) const;
  // What Figures says of just now.
  farm::v1::Figures Count() const;
  // Sorted by name. FindModel: null where unknown; valid until the next Step.
  std::vector<farm::v1::ModelManifest> ListModels() const;
  const farm::v1::ModelManifest* FindModel(const std::string& name) const;
  // Those used last first, without the blobs of their steps and frames.
  std::vector<farm::v1::PackStatus> ListPacks() const;
  // One by its name or the beginning of its key, in full. NOT_FOUND, or INVALID_ARGUMENT where several keys begin so.
  absl::StatusOr<farm::v1::PackStatus> GetPack(const std::string& name_or_key) const;
  // The pack that stands in for identities of this key: null where there is none, or it is lost. Valid until the next
  // Step.
  const farm::v1::PackManifest* FindPack(const std::string& key) const;
  // By id.
  std::vector<farm::v1::Member> ListMembers() const;
  const std::string& AuthorityDigest() const;  // empty: none was chosen yet
  // INVALID_ARGUMENT, or ALREADY_EXISTS where a member of this kind has the name.
  absl::Status CheckFreeName(farm::v1::MemberKind kind, const std::string& name) const;
  // Ids of the jobs whose bodies lie in the store's archive, sorted.
  std::vector<std::string> ArchivedJobs() const;
  // Every blob that State names: models, packs, what live jobs read, banks, results.
  BlobSizes LiveBlobs() const;
  // Digests whose files are about to go: they count as missing.
  std::vector<std::string> CondemnedBlobs() const;

 private:
  struct Parts;  // parts.h
  friend class DevicePool;
  friend class Explainer;
  friend class SchedulingRound;
  std::unique_ptr<Parts> parts_;
};

// INVALID_ARGUMENT where a member can't be called so.
absl::Status CheckMemberName(const std::string& name);

// What somebody hears whose certificate is good and not in the roster.
inline constexpr char kRemovedFromFarm[] =
    "This machine's certificate is not in the farm's roster any more: it was removed, or the farm was restored from an "
    "earlier backup. To come back it has to join again with a new code from the farm's owner.";

// Adds every blob that a message names.
void CollectBlobs(const google::protobuf::Message& message, BlobSizes* blobs);

// What a job has produced, sorted by path: "panels/012.png", "latents/012.safetensors", "pages/03.png", "story.pdf",
// "story.cbz". `status` with tasks, hot or from an archive.
std::vector<farm::v1::Output> OutputsOf(const farm::v1::JobStatus& status);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_FARM_H_
