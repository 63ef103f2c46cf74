// One live job inside State: its spec and how far each task has come, in compact arrays. A frame that was never granted
// takes 10 bytes beside its spec, which lies packed (packed_spec.h) and which all folds share (spec_shelf.h).
#ifndef STORYFARM_COORDINATOR_CORE_JOB_H_
#define STORYFARM_COORDINATOR_CORE_JOB_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/core/bitmap.h"
#include "coordinator/core/bytes.h"
#include "coordinator/core/limits.h"
#include "coordinator/core/panel_cache.h"
#include "coordinator/core/slots.h"
#include "coordinator/core/spec_shelf.h"
#include "coordinator/core/token.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/work.pb.h"
#include "pipeline/plan/plan.h"

namespace storyfarm::coordinator {

// A node as the job knows it: kept with the job, so that State does not remember nodes for ever.
struct JobNode {
  std::string id;
  std::string name;
  uint32_t tasks_done = 0;
};

// Why a task last came back or failed.
struct TaskProblem {
  farm::v1::FailureKind kind = farm::v1::FAILURE_KIND_UNSPECIFIED;
  std::string message;
};

using TaskKey = std::pair<farm::v1::TaskKind, uint32_t>;

// What can be granted in one go: a text, identity or page task, or the ready frames of one frame set.
struct Unit {
  farm::v1::TaskKind kind = farm::v1::TASK_KIND_UNSPECIFIED;
  uint32_t number = 0;  // task; frames: frame set

  auto operator<=>(const Unit&) const = default;  // NOLINT(modernize-use-nullptr): the check misreads <=>
};

// The first and the last of the kinds of tasks.
inline constexpr int kFirstKind = farm::v1::TASK_IDENTITY;
inline constexpr int kLastKind = farm::v1::TASK_TEXT;

inline bool IsFinal(uint8_t state) { return state >= farm::v1::TASK_DONE; }

class Job {
 public:
  // INVALID_ARGUMENT with a sentence where the spec does not hold together: every panel rendered once, numbers in
  // range. `panels`: how many the story has; they need not be in `spec`.
  static absl::Status Validate(const farm::v1::JobSpec& spec, uint32_t panels, const Limits& limits);

  // `spec` is valid. `ordinal` counts accepted jobs over the farm's life. `cache` outlives the job.
  Job(std::shared_ptr<const PackedSpec> spec, uint64_t ordinal, PanelCache* cache);

  // What it was submitted as, all but the panels of the story's chapters; and all of it.
  const farm::v1::JobSpec& head() const { return panels_.spec().head(); }
  const std::shared_ptr<const PackedSpec>& packed() const { return panels_.shared_spec(); }
  // What work is made of. Valid as long as the job.
  plan::JobView View() const { return plan::JobView(head(), &panels_); }
  uint64_t ordinal() const { return panels_.ordinal(); }
  const std::vector<JobNode>& nodes() const { return nodes_; }
  // Of `kind`, number within range; null else. Valid until something of the job changes.
  const Slot* slot(farm::v1::TaskKind kind, uint32_t number) const;
  uint32_t size(farm::v1::TaskKind kind) const { return slots_[kind].size(); }
  // How many tasks of a kind are in a state.
  uint32_t count(farm::v1::TaskKind kind, farm::v1::TaskState state) const { return counts_[kind][state]; }
  uint32_t pending() const { return pending_; }  // tasks not final
  uint64_t frame_grants() const { return frame_grants_; }
  bool granted_ever() const { return granted_ever_; }

  // What is ready, by kind and number.
  const std::set<Unit>& ready_units() const { return ready_units_; }
  // Frames ready in a frame set; and the ready ones from the lowest panel up: `visit` returns false to stop.
  uint32_t ready_in_set(uint32_t set) const { return ready_in_set_[set]; }
  template <typename Visit>
  void VisitReady(uint32_t set, Visit visit) const;
  // The unit's first ready tasks, at most `most`.
  std::vector<uint32_t> FirstReady(const Unit& unit, size_t most) const;
  // Position in frame_sets, or -1 - the identity task that renders the panel.
  int32_t owner(uint32_t panel) const { return owner_[panel]; }

  std::optional<farm::v1::FrameResult> FrameResultOf(uint32_t panel) const;
  const farm::v1::Bank* BankOf(uint32_t identity) const;          // null until done
  const farm::v1::PageResult* PageResultOf(uint32_t page) const;  // null until done
  // The file of a text task; null until it is done, and where nobody needed it.
  const farm::v1::BlobRef* EmbeddingsOf(uint32_t text) const;
  // The text task whose embeddings an identity or a frame reads; kNoText: none.
  static constexpr uint32_t kNoText = UINT32_MAX;
  uint32_t TextOf(const TaskKey& task) const;
  // Whether a result of the task may be taken: it is not final, or a text task that was let go without one, since what
  // needs it may come back.
  bool IsOpen(const TaskKey& task) const {
    return !IsFinal(slots_[task.first].state(task.second)) ||
           (task.first == farm::v1::TASK_TEXT && slots_[task.first].state(task.second) == farm::v1::TASK_DONE &&
            finished_unix_ms == 0 && LacksText(task.second));
  }
  bool LacksText(uint32_t text) const { return text != kNoText && texts_.count(text) == 0; }
  // Whether something that is not final reads the task's embeddings.
  bool IsTextNeeded(uint32_t text) const;
  // The pack that stood in for an identity; null: none did.
  const farm::v1::PackUse* PackOf(uint32_t identity) const;
  size_t packs_taken() const { return pack_uses_.size(); }
  // What an identity took its device; 0: nothing was computed for it, or it is not done.
  uint64_t IdentityMsOf(uint32_t identity) const;
  // Why a task failed or last came back, in a sentence; of a frame whose identity failed, that.
  std::string ProblemOf(farm::v1::TaskKind kind, uint32_t number) const;
  // Nodes (positions in nodes()) whose engine the task aborted; null: none.
  const std::set<uint32_t>* AbortsOf(const TaskKey& task) const;
  // All tasks that fail with this one: panels that an identity task renders and those that read its bank; whatever reads
  // a text task's embeddings, with its own dependents. Some of them twice.
  std::vector<TaskKey> DependentsOf(const TaskKey& task) const;
  // Failed tasks: all of them, or the given one with what it can't be made without and all that failed of that. Empty:
  // none such failed.
  std::vector<TaskKey> Retriable(const std::optional<TaskKey>& only) const;
  // Pages on which one of these tasks stands, the book among them.
  std::vector<uint32_t> PagesWith(const std::vector<TaskKey>& tasks) const;
  // Whether a frame that waits could follow its identities while they are computed: each that is missing is granted, and
  // it waits for nothing else.
  bool CanGoAhead(uint32_t panel) const;
  // Frames granted under CanGoAhead that read this identity, as far as they are still granted.
  std::vector<uint32_t> GoneAhead(uint32_t identity) const;
  // What work on `tasks` reads of earlier results.
  plan::WorkInputs InputsFor(farm::v1::TaskKind kind, const std::vector<uint32_t>& numbers) const;

  farm::v1::JobState state = farm::v1::JOB_QUEUED;  // final states only come from JobFinished and JobCancelled
  uint64_t finished_unix_ms = 0;
  bool paused = false;       // by JobChanged: nothing more of it is granted
  uint32_t priority = 0;     // 1 to kMostPriority; from the spec, then by JobChanged
  uint32_t live_grants = 0;  // kept by State

  // ---- Only for State::Apply, which has checked the task's state. ----
  uint32_t NodeIndex(const std::string& id, const std::string& name);
  void Granted(const TaskKey& task, const Token& token, uint32_t node, uint32_t device, bool ahead);
  void FrameFinished(uint32_t panel, const farm::v1::FrameResult& result, uint32_t node);
  void IdentityFinished(uint32_t number, const farm::v1::IdentityResult& result);
  void IdentityTaken(uint32_t number, const farm::v1::IdentityResult& result, const farm::v1::PackUse& use);
  void IdentityReopened(uint32_t number);
  void TextDone(uint32_t number, const farm::v1::BlobRef& embeddings);
  // TextDone by a result of the task's last grant.
  void TextFinished(uint32_t number, const farm::v1::TextResult& result);
  void TextTaken(uint32_t number, const farm::v1::BlobRef& embeddings);
  void TextReopened(uint32_t number);
  void PageFinished(uint32_t number, const farm::v1::PageResult& result);
  void Returned(const TaskKey& task, const farm::v1::Failure& why, bool counts);
  void Failed(const TaskKey& task, const farm::v1::Failure& why);
  // `tasks` as Retriable gives them. No page with one of them is GRANTED any more in State.
  void Retried(const std::vector<TaskKey>& tasks);
  void Cancel();

  void Write(ByteWriter& out) const;
  // `shelf` may be null.
  static std::optional<Job> Read(ByteReader& in, SpecShelf* shelf, PanelCache* cache);

 private:
  struct FrameOutcome {
    std::array<char, 32> image{};
    std::array<char, 32> latents{};
    uint64_t image_bytes = 0;
    uint64_t latents_bytes = 0;  // 0: none were kept
    uint64_t peak_bytes = 0;
    uint64_t predicted_peak_bytes = 0;
    uint64_t finished_unix_ms = 0;
    uint64_t render_ms = 0;
  };

  Slot& mutable_slot(const TaskKey& task) { return slots_[task.first].Mutable(task.second); }
  void SetState(const TaskKey& task, farm::v1::TaskState state);
  void MarkReady(const TaskKey& task, bool ready);
  void KeepFrame(uint32_t panel, const farm::v1::FrameResult& result);
  // A task that is to be done: READY, or BLOCKED where a bank or embeddings that it reads are not there.
  farm::v1::TaskState WaitingState(const TaskKey& task) const;
  // Frames of a set that wait for nothing any more are ready.
  void WakeFrames(const google::protobuf::RepeatedField<uint32_t>& panels);
  // Embeddings that nobody reads are not computed: a text task that waits for its grant is over.
  void DropUnneededText(uint32_t text);
  // Its bank is there: what waited for it alone is ready.
  void IdentityDone(uint32_t number, const farm::v1::Bank& bank);
  void FrameFinal(uint32_t panel);
  void FrameReopened(uint32_t panel);
  void Reopen(const TaskKey& task, farm::v1::TaskState state);
  void UpdateBook();
  void Reindex();
  bool ReadSlots(ByteReader& in);
  bool ReadIdentities(ByteReader& in);
  bool ReadTexts(ByteReader& in);
  void LayOut();

  JobPanels panels_;
  std::array<Slots, kLastKind + 1> slots_;  // by TaskKind
  std::vector<JobNode> nodes_;
  std::vector<FrameOutcome> outcomes_;  // in order of finishing
  std::map<uint32_t, std::vector<std::string>> frame_warnings_;
  std::map<uint32_t, farm::v1::Bank> banks_;
  std::map<uint32_t, farm::v1::PackUse> pack_uses_;  // by identity
  std::map<uint32_t, uint64_t> identity_ms_;         // by identity: of those that were computed
  std::map<uint32_t, farm::v1::PageResult> page_results_;
  std::map<uint32_t, farm::v1::BlobRef> texts_;
  std::map<TaskKey, TaskProblem> problems_;
  std::map<TaskKey, std::set<uint32_t>> aborts_;
  uint64_t frame_grants_ = 0;
  bool granted_ever_ = false;

  // Follow from the above (Reindex).
  std::vector<int32_t> owner_;     // by panel
  std::vector<uint32_t> page_of_;  // by panel: position of its page, or size of pages: none
  std::vector<uint32_t> text_of_panel_;     // whose embeddings its frame reads; empty: the job has no text tasks
  std::vector<uint32_t> text_of_identity_;  // kNoText: none
  std::array<std::array<uint32_t, 8>, kLastKind + 1> counts_{};
  uint32_t pending_ = 0;
  std::set<Unit> ready_units_;
  std::vector<uint32_t> ready_in_set_;
  std::vector<Bitmap> ready_;                 // by set: positions of its ready frames
  std::vector<uint32_t> identities_missing_;  // by set: banks not there yet
  std::vector<uint32_t> panels_missing_;      // by page but the book: panels not final yet
};

template <typename Visit>
void Job::VisitReady(uint32_t set, Visit visit) const {
  const auto& panels = head().frame_sets(static_cast<int>(set)).panels();
  const auto size = static_cast<size_t>(panels.size());
  for (size_t i = ready_[set].Next(0); i < size; i = ready_[set].Next(i + 1)) {
    if (!visit(panels[static_cast<int>(i)])) return;
  }
}

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_JOB_H_
