// The durable half of the core: the fold of all records. Nothing but Apply changes it.
#ifndef STORYFARM_COORDINATOR_CORE_STATE_H_
#define STORYFARM_COORDINATOR_CORE_STATE_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/core/job.h"
#include "coordinator/core/limits.h"
#include "coordinator/core/pack_shelf.h"
#include "coordinator/core/roster.h"
#include "coordinator/core/text_shelf.h"
#include "coordinator/core/token.h"
#include "farm/v1/limits.pb.h"
#include "farm/v1/record.pb.h"

namespace storyfarm::coordinator {

// A group that a device may hold: one token, tasks of one job and kind.
struct LiveGrant {
  std::string job_id;
  farm::v1::TaskKind kind = farm::v1::TASK_KIND_UNSPECIFIED;
  std::string node_id;
  uint32_t device = 0;
  uint64_t planned_bytes = 0;
  std::set<uint32_t> numbers;  // still GRANTED under this token; never empty
};

// What stays of a job that left for the archive.
struct ArchivedJob {
  std::string job_id;
  std::string idempotency_key;
  std::string request_digest;
  uint64_t finished_unix_ms = 0;
};

class State {
 public:
  // `shelf` may be null; else it outlives the state.
  explicit State(const Limits& limits, SpecShelf* shelf = nullptr) : limits_(limits), shelf_(shelf) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  // DATA_LOSS with a sentence if the record cannot follow those before it; then nothing changed.
  absl::Status Apply(const farm::v1::Record& record);

  uint64_t record_count() const { return record_count_; }
  uint64_t incarnation() const { return incarnation_; }
  Token next_token() const { return {incarnation_, next_number_}; }

  // By job id: every job that is not archived.
  const std::map<std::string, Job>& jobs() const { return jobs_; }
  const Job* FindJob(const std::string& job_id) const;
  // Ordinals of jobs, oldest first: with work left; ended and still hot (in order of ending); archived.
  const std::map<uint64_t, std::string>& live() const { return live_; }
  const std::vector<std::string>& ended() const { return ended_; }
  const std::map<uint64_t, ArchivedJob>& archived() const { return archived_; }
  const std::map<std::string, uint64_t>& archived_ordinals() const { return archived_ordinals_; }
  // Jobs that have ended, hot or archived, by when.
  const std::set<std::pair<uint64_t, std::string>>& finished() const { return finished_; }
  // Forgotten jobs whose archive may still be in the store.
  const std::set<std::string>& forgotten() const { return forgotten_; }
  // Digests whose files are about to go.
  const std::set<std::string>& condemned() const { return condemned_; }
  const std::map<std::string, std::string>& job_of_key() const { return job_of_key_; }
  const std::map<std::string, farm::v1::ModelManifest>& models() const { return models_; }
  // Nodes that a person took out of the farm, by id.
  const std::set<std::string>& drained() const { return drained_; }
  // What the farm may take of nodes, by id, where a person limited that; never empty ones.
  const std::map<std::string, farm::v1::WorkerLimits>& node_limits() const { return node_limits_; }
  // Null: none.
  const farm::v1::WorkerLimits* LimitsOf(const std::string& node_id) const;
  // Ends of jobs that somebody outside is still to be told of, by job id.
  const std::map<std::string, farm::v1::JobNotice>& notices() const { return notices_; }
  const std::map<Token, LiveGrant>& grants() const { return grants_; }
  // Tokens that a node may hold, oldest grant first; null: none.
  const std::set<Token>* GrantsOf(const std::string& node_id) const;
  plan::LearnedNeed NeedOf(const std::string& model_digest, farm::v1::Backend backend) const;
  const PackShelf& packs() const { return packs_; }
  const Roster& roster() const { return roster_; }
  const TextShelf& texts() const { return texts_; }
  // Identity tasks of live jobs (ordinal, number) that make or take the pack of a key; null: none.
  const std::set<std::pair<uint64_t, uint32_t>>* IdentitiesOf(const std::string& pack_key) const;

  void Write(ByteWriter& out) const;
  // On a fresh State. DATA_LOSS where the bytes are damaged or of another version.
  absl::Status Read(ByteReader& in);

  // Not OK unless a result under `token` may be taken for this task.
  absl::Status Takes(const Job* job, farm::v1::TaskKind kind, uint32_t number, const Token& token) const;

 private:
  absl::Status ApplyFact(const farm::v1::Record& record);
  absl::Status Accept(const farm::v1::JobAccepted& fact);
  absl::Status Grant(const farm::v1::Granted& fact);
  absl::Status FinishFrame(const farm::v1::FrameFinished& fact);
  absl::Status FinishIdentity(const farm::v1::IdentityFinished& fact);
  absl::Status FinishPage(const farm::v1::PageFinished& fact);
  absl::Status Return(const farm::v1::TaskReturned& fact);
  absl::Status Fail(const farm::v1::TaskFailed& fact);
  absl::Status Cancel(const farm::v1::JobCancelled& fact);
  absl::Status Change(const farm::v1::JobChanged& fact);
  absl::Status End(const farm::v1::JobFinished& fact);
  absl::Status Retry(const farm::v1::TasksRetried& fact);
  absl::Status Archive(const farm::v1::JobArchived& fact);

  // state_forgetting.cc
  absl::Status Forget(const farm::v1::JobForgotten& fact);
  absl::Status DropArchive(const farm::v1::ArchiveDropped& fact);
  absl::Status Condemn(const farm::v1::BlobsCondemned& fact);
  absl::Status DropBlobs(const farm::v1::BlobsDropped& fact);
  void ForgetArchived(uint64_t ordinal);

  // state_packs.cc
  absl::Status ApplyPackFact(const farm::v1::Record& record);
  absl::Status UsePack(const farm::v1::PackUsed& fact);
  absl::Status Reopen(const farm::v1::IdentityReopened& fact);
  void AddIdentities(const Job& job);
  void RemoveIdentities(const Job& job);

  // state_texts.cc
  absl::Status ApplyTextFact(const farm::v1::Record& record);
  absl::Status FinishText(const farm::v1::TextFinished& fact);
  absl::Status TakeText(const farm::v1::TextTaken& fact);
  absl::Status ReopenText(const farm::v1::TextReopened& fact);

  // The live job, or null.
  Job* LiveJob(const std::string& job_id);
  void Release(Job& job, const Token& token, uint32_t number);
  void AddGrant(Job& job, const Token& token, LiveGrant grant);
  bool ReadGrants(ByteReader& in);
  void MarkEnded(Job& job, farm::v1::JobState state, uint64_t unix_ms, bool notice_due);

  Limits limits_;
  SpecShelf* shelf_;
  PanelCache panels_;  // of all jobs
  uint64_t record_count_ = 0;
  uint64_t incarnation_ = 0;
  uint64_t next_number_ = 1;
  uint64_t next_ordinal_ = 1;
  std::map<std::string, Job> jobs_;
  std::map<uint64_t, std::string> live_;
  std::vector<std::string> ended_;
  std::map<uint64_t, ArchivedJob> archived_;
  std::map<std::string, uint64_t> archived_ordinals_;
  std::set<std::pair<uint64_t, std::string>> finished_;
  std::set<std::string> forgotten_;
  std::set<std::string> condemned_;
  std::map<std::string, std::string> job_of_key_;
  std::map<std::string, farm::v1::ModelManifest> models_;
  std::set<std::string> drained_;
  std::map<std::string, farm::v1::WorkerLimits> node_limits_;
  std::map<std::string, farm::v1::JobNotice> notices_;
  std::map<Token, LiveGrant> grants_;
  std::map<std::string, std::set<Token>> grants_of_node_;
  std::map<std::pair<std::string, int>, plan::LearnedNeed> needs_;
  PackShelf packs_;
  Roster roster_;
  TextShelf texts_;
  std::map<std::string, std::set<std::pair<uint64_t, uint32_t>>> identities_of_pack_;  // follows from the live jobs
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_STATE_H_
