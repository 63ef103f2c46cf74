// One Grant as the worker holds it: its tasks, what has begun, what has finished, and how it is cut into slices.
#ifndef STORYFARM_WORKER_CORE_GROUP_H_
#define STORYFARM_WORKER_CORE_GROUP_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "farm/v1/session.pb.h"
#include "farm/v1/work.pb.h"
#include "worker/core/silence.h"

namespace storyfarm::worker {

enum class TaskStage {
  kWaiting,  // not begun: can be given back
  kRunning,
  kOver,  // finished, failed, given back or revoked: no longer this group's
};

class Group {
 public:
  // INVALID_ARGUMENT where the grant contradicts itself: no work, or not a frame for each task.
  static absl::StatusOr<Group> From(farm::v1::Grant grant);

  const farm::v1::FencingToken& token() const { return grant_.token(); }
  const farm::v1::Work& work() const { return grant_.work(); }
  uint32_t device() const { return grant_.device(); }
  const farm::v1::TaskId& task(size_t index) const { return grant_.tasks(static_cast<int>(index)); }
  size_t task_count() const { return stages_.size(); }
  TaskStage stage(size_t index) const { return stages_[index]; }
  // Its run was cut short: what it had not settled waits again.
  void Restart(const std::vector<size_t>& slice);
  void set_stage(size_t index, TaskStage stage) { stages_[index] = stage; }

  bool HasWaiting() const;
  bool Over() const;  // no task waits or runs
  std::optional<size_t> Find(const farm::v1::TaskId& task) const;
  std::optional<size_t> FindPanel(uint32_t panel) const;  // of frames work

  // The tasks that run next: all of them but for frames whose plan keeps the weights, which go plan.batch at a time.
  std::vector<size_t> NextSlice() const;
  // The work of these tasks alone.
  farm::v1::Work WorkOf(const std::vector<size_t>& slice) const;
  RunKind KindOf(const std::vector<size_t>& slice) const;

  // Whether it reads a bank that is still computed elsewhere, so that its engine may rightly wait.
  bool FollowsWriter() const;
  // False where the group reads no such bank.
  bool Grown(uint32_t character, uint32_t step);

  // Null for pages, which need no plan.
  const farm::v1::MemoryPlan* plan() const;

  bool prepared = false;
  bool fits = false;  // memory was measured and suffices

  // Of an identity pass, as it grows.
  farm::v1::IdentityResult identity;
  farm::v1::TextResult text;              // of a text pass, without embeddings until they are there
  std::vector<std::string> held_digests;  // bank steps and pictures that go up ahead of the result

 private:
  explicit Group(farm::v1::Grant grant) : grant_(std::move(grant)) {}

  farm::v1::Grant grant_;
  std::vector<TaskStage> stages_;
  std::map<uint32_t, std::set<uint32_t>> growing_;  // by character: steps that are there
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_CORE_GROUP_H_
