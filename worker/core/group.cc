#include "worker/core/group.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/names.h"
#include "worker/core/keys.h"
#include "worker/core/session.h"

namespace storyfarm::worker {

using farm::v1::FramesWork;
using farm::v1::Work;

absl::StatusOr<Group> Group::From(farm::v1::Grant grant) {
  const Work& work = grant.work();
  if (grant.tasks_size() == 0) return absl::InvalidArgumentError("The grant has no tasks.");
  const int wanted = work.has_frames() ? work.frames().frames_size() : 1;
  if (work.kind_case() == Work::KIND_NOT_SET) {
    return absl::InvalidArgumentError(
        absl::StrCat("The grant of ", plan::TaskName(grant.tasks(0)), " has no work that this version knows."));
  }
  if (grant.tasks_size() != wanted) {
    return absl::InvalidArgumentError(
        absl::StrCat("The grant names ", grant.tasks_size(), " tasks and its work is for ", wanted, "."));
  }
  Group group(std::move(grant));
  group.stages_.assign(static_cast<size_t>(wanted), TaskStage::kWaiting);
  for (const farm::v1::Bank& bank : group.work().frames().banks()) {
    if (bank.growing()) group.growing_[bank.character()];
  }
  if (group.work().has_identity()) {
    *group.identity.mutable_plan() = group.work().identity().plan();
    farm::v1::Bank* bank = group.identity.mutable_bank();
    bank->set_character(group.work().identity().character());
    bank->set_character_key(group.work().identity().character_key());
    bank->set_identity_frames(static_cast<uint32_t>(group.work().identity().frames_size()));
  }
  return group;
}

bool Group::FollowsWriter() const {
  const uint32_t steps = work().frames().settings().steps();
  return std::any_of(growing_.begin(), growing_.end(), [steps](const auto& bank) { return bank.second.size() < steps; });
}

bool Group::Grown(uint32_t character, uint32_t step) {
  const auto bank = growing_.find(character);
  if (bank == growing_.end() || step >= work().frames().settings().steps()) return false;
  bank->second.insert(step);
  return true;
}

bool Group::HasWaiting() const {
  return std::find(stages_.begin(), stages_.end(), TaskStage::kWaiting) != stages_.end();
}

bool Group::Over() const {
  return std::all_of(stages_.begin(), stages_.end(), [](TaskStage stage) { return stage == TaskStage::kOver; });
}

std::optional<size_t> Group::Find(const farm::v1::TaskId& task) const {
  const TaskKey key = KeyOf(task);
  for (size_t i = 0; i < stages_.size(); ++i) {
    if (KeyOf(this->task(i)) == key) return i;
  }
  return std::nullopt;
}

std::optional<size_t> Group::FindPanel(uint32_t panel) const {
  for (size_t i = 0; i < stages_.size(); ++i) {
    if (work().frames().frames(static_cast<int>(i)).panel() == panel) return i;
  }
  return std::nullopt;
}

const farm::v1::MemoryPlan* Group::plan() const {
  if (work().has_identity()) return &work().identity().plan();
  if (work().has_frames()) return &work().frames().plan();
  if (work().has_text()) return &work().text().plan();
  return nullptr;
}

void Group::Restart(const std::vector<size_t>& slice) {
  for (const size_t index : slice) {
    if (stages_[index] == TaskStage::kRunning) stages_[index] = TaskStage::kWaiting;
  }
  identity.clear_frames();
  text.Clear();
}

std::vector<size_t> Group::NextSlice() const {
  size_t most = stages_.size();
  if (work().has_frames() && !work().frames().plan().text_encoders_in_phases()) {
    most = std::max<uint32_t>(1, work().frames().plan().batch());
  }
  std::vector<size_t> slice;
  for (size_t i = 0; i < stages_.size() && slice.size() < most; ++i) {
    if (stages_[i] == TaskStage::kWaiting) slice.push_back(i);
  }
  return slice;
}

Work Group::WorkOf(const std::vector<size_t>& slice) const {
  if (!work().has_frames() || slice.size() == stages_.size()) return work();
  const FramesWork& whole = work().frames();
  Work part;
  FramesWork* frames = part.mutable_frames();
  *frames->mutable_model() = whole.model();
  *frames->mutable_settings() = whole.settings();
  *frames->mutable_plan() = whole.plan();
  *frames->mutable_banks() = whole.banks();
  if (whole.has_text()) *frames->mutable_text() = whole.text();
  for (const size_t index : slice) *frames->add_frames() = whole.frames(static_cast<int>(index));
  return part;
}

RunKind Group::KindOf(const std::vector<size_t>& slice) const {
  RunKind kind;
  kind.device = device();
  kind.pixels = 0;
  const auto add = [&kind](const farm::v1::Frame& frame) {
    kind.pixels += static_cast<int64_t>(frame.width()) * frame.height();
  };
  if (work().has_identity()) {
    kind.model_digest = work().identity().model().digest();
    kind.identity = true;
    for (const auto& frame : work().identity().frames()) add(frame);
  } else if (work().has_frames()) {
    kind.model_digest = work().frames().model().digest();
    for (const size_t index : slice) add(work().frames().frames(static_cast<int>(index)));
  } else if (work().has_text()) {
    kind.model_digest = work().text().model().digest();
    kind.text = true;
  } else {
    for (const auto& page : work().page().pages()) {
      for (const auto& panel : page.panels()) kind.pixels += static_cast<int64_t>(panel.width()) * panel.height();
    }
  }
  kind.pixels = std::max<int64_t>(kind.pixels, 1);
  return kind;
}

}  // namespace storyfarm::worker
