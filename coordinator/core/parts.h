// The inside of Farm: State, Fleet and the functions that turn inputs into records and messages. One method a kind of
// input; the file that holds it is named beside it.
#ifndef STORYFARM_COORDINATOR_CORE_PARTS_H_
#define STORYFARM_COORDINATOR_CORE_PARTS_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordinator/core/device_pool.h"
#include "coordinator/core/farm.h"
#include "coordinator/core/fleet.h"
#include "coordinator/core/job_queue.h"
#include "coordinator/core/state.h"

namespace storyfarm::coordinator {

// Another job's identity task whose pack a task may wait for.
struct PackUnderWay {
  std::string task;  // its name
  double end_s = 0;  // when it will be there, on the monotonic clock
};

struct Farm::Parts {
  Parts(const Planner* planner, const Limits& limits, SpecShelf* shelf)
      : planner(planner), limits(limits), shelf(shelf), state(limits, shelf), fleet(planner), pool(this) {}

  const Planner* planner;
  const Limits limits;
  SpecShelf* const shelf;
  State state;
  Fleet fleet;
  DevicePool pool;
  JobQueue queue;
  bool started = false;
  uint64_t random = 0;  // state of the generator that spreads back-offs

  // Of the Step that runs.
  Time now;
  Decisions out;
  std::set<std::string> changed;
  bool schedule = false;  // something changed that grants may follow from
  // What the pool and the queue have not been told of yet.
  std::set<std::string> touched_nodes;
  std::set<std::string> touched_jobs;
  std::set<uint64_t> changed_turns;  // ordinals: jobs that may get more than when they were asked last
  int64_t full_round_ms = 0;         // when all jobs were asked last
  std::set<std::string> archives_offered;
  std::set<std::string> drops_offered;    // forgotten jobs whose archives are being removed
  std::set<std::string> notices_offered;  // ended jobs whose end is being told
  std::string dispatch_held;              // why nothing is granted; empty: it may be

  // ---- farm.cc
  // The only way a record comes to be: made durable later, applied now.
  void Commit(farm::v1::Record record);
  void Send(uint64_t session, farm::v1::CoordinatorMessage message);
  void CloseWith(uint64_t session, absl::Status status);
  void Answer(uint64_t request, absl::Status status, const std::string& job_id = "", bool existed = false);
  void OfferArchives();
  uint64_t Random();

  // ---- client_inputs.cc
  void On(const Started& input);
  void On(SubmitJob& input);
  void On(const CancelJob& input);
  void On(AddModel& input);
  void On(const ArchiveStored& input);

  // ---- changes.cc
  void On(const ChangeJob& input);
  void On(const DrainNode& input);
  void On(const HoldDispatch& input);
  // NOT_FOUND, or FAILED_PRECONDITION where it has ended.
  absl::StatusOr<const Job*> NeedLive(const std::string& job_id) const;
  absl::StatusOr<std::string> FindNode(const std::string& name_or_id) const;
  void AskBackUnstarted(const Token& token);
  // Gets back what a drained node holds: what it has not begun, or all of it.
  void TakeFrom(const std::string& node_id, bool at_once);

  // ---- limiting.cc
  void On(const LimitNode& input);
  // Whether the node could draw with the farm's models within these limits: FAILED_PRECONDITION where it could with
  // some, and could with none; a warning for each that it loses, and where it can't be told.
  absl::Status CheckRoom(const std::string& node_id, const farm::v1::WorkerLimits& wanted,
                         std::vector<std::string>* warnings) const;
  // Why a device does not take a group, with the node's limits where they count.
  std::string WhyRefused(const Node& node, const farm::v1::Refusal& refusal) const;

  // ---- retrying.cc
  void On(const RetryJob& input);
  // Takes pages back from whoever composes them with stand-ins for these tasks.
  void RevokePages(const Job& job, const std::vector<TaskKey>& tasks);

  // ---- forgetting.cc
  void On(const ForgetJob& input);
  void On(const ArchiveRemoved& input);
  void On(const CondemnBlobs& input);
  void On(const BlobsUnlinked& input);
  // Jobs that ended so long ago, or so many jobs ago, that they are kept no more.
  void ForgetOld();
  void Forget(const std::string& job_id);
  void OfferDrops();

  // ---- packs.cc
  void On(const NamePack& input);
  void On(const ForgetPack& input);
  // Every identity of the job that is ready and whose pack is there and worth it is done by that.
  void TakePacks(const std::string& job_id);
  void TakePack(const std::string& job_id, uint32_t number);
  // Whether some device would have the pack sooner than compute it; true where none is connected, and for a pack that
  // the story names.
  bool WorthTaking(const Job& job, uint32_t number, const Pack& pack);
  // The pack that a result, not yet taken, makes; empty: none, or there is one already.
  std::optional<farm::v1::PackManifest> PackOf(const Job& job, const farm::v1::Result& result, const Node& node,
                                               uint32_t device) const;
  void KeepPack(farm::v1::PackManifest pack);
  // The same identity that some device computes for another job just now: the one that will be done first.
  std::optional<PackUnderWay> FindPackUnderWay(const Job& job, uint32_t number) const;
  void RemovePack(const std::string& key);
  void LosePacks(const std::vector<LostPack>& lost);
  // The bank of every identity that the job's frames read and that holds this blob is gone: it is computed again, and
  // its pack is lost. Where a story takes it by name nobody can, and it fails.
  void ReopenIdentities(const std::string& job_id, const std::string& missing_digest);
  void LosePack(const Pack& pack);
  absl::Status NeedNamedPacks(const farm::v1::JobSpec& spec) const;
  absl::StatusOr<const Pack*> FindPack(const std::string& name_or_key) const;
  // Removes packs beyond the budget.
  void TrimPacks();
  farm::v1::PackStatus StatusOf(const Pack& pack) const;
  // ---- texts.cc
  // Embeddings that an earlier job made stand in for a text task that is ready. False: there are none.
  bool TakeText(const Job& job, uint32_t number);
  // The job's text tasks whose file this blob was are done again, as far as somebody needs them; no later job takes it.
  void ReopenTexts(const std::string& job_id, const std::string& missing_digest);
  // Keeps embeddings within the budget.
  void TrimTexts();

  // ---- members.cc
  void On(const ChooseAuthority& input);
  void On(AddMember& input);
  void On(const RenameMember& input);
  void On(const RenewMember& input);
  void On(const RemoveMember& input);
  absl::Status NeedFreeName(farm::v1::MemberKind kind, const std::string& name) const;
  // Tells those who serve other machines which certificates of a worker count in place of which.
  void TellReaders(const std::set<std::string>& before, const std::set<std::string>& after);
  // Ends the node's stream, gives what it holds to others, and forgets it.
  void CutOff(const std::string& node_id, const absl::Status& why);

  // ---- notices.cc
  void On(const NoticeAnswered& input);
  // Whether the end of a job that ends now is to be told; makes room for it.
  bool NoticeWanted();
  void SettleNotice(const std::string& job_id, bool delivered, uint32_t tries, const std::string& why);
  void DropNotices(const std::string& why);
  void OfferNotices();

  // ---- worker_inputs.cc
  void On(const WorkerConnected& input);
  void On(WorkerSaid& input);
  void On(const WorkerGone& input);
  // ALREADY_EXISTS: another process of this node is alive.
  absl::Status CheckOnlyOne(const farm::v1::Hello& hello) const;
  void Welcome(Node& node, const farm::v1::Hello& hello);
  void OnHeartbeat(Node& node, const farm::v1::Heartbeat& heartbeat);
  void OnProgress(Node& node, const farm::v1::Progress& progress);
  void OnResult(Node& node, farm::v1::Result& result, const std::vector<std::string>& missing_digests);
  void OnTrimReply(Node& node, const farm::v1::TrimReply& reply);
  void OnLeaving(Node& node, const farm::v1::Leaving& leaving);

  // ---- wavefront.cc
  void OnBankStep(Node& node, const farm::v1::BankStep& step);
  // Tells the device that holds a frame which follows its identities of every step of their banks that there is.
  void TellReader(const Job& job, uint32_t panel);
  void TellStep(const Job& job, uint32_t panel, uint32_t identity, uint32_t step, const farm::v1::BlobRef& blob,
                const Node* writer);
  // Frames that follow this identity come back: its writer ended without a result, and another one's bank differs.
  void CallBack(const std::string& job_id, uint32_t identity);
  // The banks of the frame's identities that are still computed, as far as they are known.
  void AddGrowing(const Job& job, uint32_t panel, plan::WorkInputs* inputs) const;

  // ---- leases.cc
  void On(const Tick& input);
  // True if the task is still this node's under this token: GRANTED, or READY and granted to nobody since, in which
  // case it is granted to it again under the same token.
  bool Keep(const Node& node, const farm::v1::FencingToken& token, const farm::v1::TaskId& task);
  // Whether a result under this token would be taken.
  bool WouldTake(const farm::v1::FencingToken& token, const farm::v1::TaskId& task) const;
  void Renew(const Token& token);
  // Of the node's grants, only those that it has just listed are renewed by whatever else it says.
  void VouchForListed(const Node& node, const std::set<Token>& listed);
  // Until when the lease holds by what its node said last; 0: nothing of that speaks for it.
  int64_t VouchedUntil(const Token& token) const;

  // ---- faults.cc
  void OnFault(Node& node, const farm::v1::TaskFault& fault, const std::vector<std::string>& missing_digests);
  // The task comes back under its token's failure; fails it for good where its tries are used up.
  void GiveBack(const Token& token, const farm::v1::TaskId& task, const farm::v1::Failure& why, bool counts);
  void FailTask(const farm::v1::TaskId& task, farm::v1::FailureKind kind, const std::string& message);
  void LearnNeed(const Token& token, const farm::v1::Failure& why);
  void DeviceFault(const std::string& node_id, uint32_t device, const std::string& why);
  // Its owner took it back for a while: no fault.
  void DeviceRests(const std::string& node_id, uint32_t device, const std::string& why);
  void EndJobIfDone(const std::string& job_id);
  void CheckPoison(const farm::v1::TaskId& task, const std::string& why);
  uint32_t CapableNodes(const Job& job, farm::v1::TaskKind kind, uint32_t number);

  // Notes what a record changed; Settle tells pool and queue.
  void Note(const farm::v1::Record& record);
  void Settle();

  // ---- scheduler.cc, stealing.cc, holdings.cc, peers.cc
  void Schedule();
  // Puts the group where stealing looks for it, or takes it away from there.
  void NoteStealable(const Holding& holding);
  // Tells the worker which others have blobs of the work that it lacks: these banks and embeddings, what it uses of
  // the job's model.
  void AddPeers(const Job& job, const Node& to, plan::ModelUse use, const std::vector<const farm::v1::Bank*>& banks,
                const std::vector<const farm::v1::BlobRef*>& texts, farm::v1::Grant* grant) const;
  // Asks the worker to give back tasks that it has not begun.
  void AskBack(const Token& token, const std::vector<uint32_t>& numbers);
  // Why a device gets nothing at all just now; empty: it may.
  std::string WhyIdle(const Node& node, const Device& device) const;
  // All that the device holds, oldest first, and when each will be done, as far as is known.
  std::vector<Holding> HoldingsOf(const Node& node, uint32_t device_index) const;

  // ---- status.cc
  farm::v1::JobStatus StatusOf(const Job& job, bool with_tasks);
  void AddTasks(const Job& job, farm::v1::JobStatus& status);
  // Ready groups that no connected device takes, with the best answer that a device gave.
  void AddRefusals(const Job& job, farm::v1::JobStatus& status);
};

// A failure of that kind, which is no task's fault.
farm::v1::Failure Lost(const std::string& message);
farm::v1::TaskId MakeTask(const std::string& job_id, farm::v1::TaskKind kind, uint32_t number);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_PARTS_H_
