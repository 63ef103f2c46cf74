// What tasks of a job wait for: embeddings of their prompts, and banks of the identities that they read.
#include <algorithm>

#include "coordinator/core/job.h"

namespace storyfarm::coordinator {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_TEXT;

farm::v1::TaskState Job::WaitingState(const TaskKey& task) const {
  const int32_t set = task.first == TASK_FRAME ? owner_[task.second] : -1;
  const bool lacks_bank = set >= 0 && identities_missing_[set] > 0;
  return lacks_bank || LacksText(TextOf(task)) ? farm::v1::TASK_BLOCKED : farm::v1::TASK_READY;
}

uint32_t Job::TextOf(const TaskKey& task) const {
  if (task.first == TASK_IDENTITY) return text_of_identity_[task.second];
  return task.first == TASK_FRAME && !text_of_panel_.empty() ? text_of_panel_[task.second] : kNoText;
}

void Job::WakeFrames(const google::protobuf::RepeatedField<uint32_t>& panels) {
  for (uint32_t panel : panels) {
    const TaskKey frame{TASK_FRAME, panel};
    if (slots_[TASK_FRAME].state(panel) == farm::v1::TASK_BLOCKED && owner_[panel] >= 0) {
      SetState(frame, WaitingState(frame));
    }
  }
}

std::vector<TaskKey> Job::DependentsOf(const TaskKey& task) const {
  std::vector<TaskKey> dependents;
  const auto add_panels = [&dependents](const auto& panels) {
    for (uint32_t panel : panels) dependents.emplace_back(TASK_FRAME, panel);
  };
  if (task.first == TASK_IDENTITY) {
    add_panels(head().identities(static_cast<int>(task.second)).panels());
    for (const auto& set : head().frame_sets()) {
      const auto& identities = set.identities();
      if (std::find(identities.begin(), identities.end(), task.second) != identities.end()) add_panels(set.panels());
    }
  }
  if (task.first == TASK_TEXT) {
    const farm::v1::TextTask& text = head().texts(static_cast<int>(task.second));
    add_panels(text.panels());
    for (uint32_t identity : text.identities()) {
      if (IsFinal(slots_[TASK_IDENTITY].state(identity))) continue;
      dependents.emplace_back(TASK_IDENTITY, identity);
      const std::vector<TaskKey> panels = DependentsOf({TASK_IDENTITY, identity});
      dependents.insert(dependents.end(), panels.begin(), panels.end());
    }
  }
  return dependents;
}

bool Job::CanGoAhead(uint32_t panel) const {
  if (panel >= owner_.size() || owner_[panel] < 0 || slots_[TASK_FRAME].state(panel) != farm::v1::TASK_BLOCKED) {
    return false;
  }
  const auto& identities = head().frame_sets(owner_[panel]).identities();
  return !LacksText(TextOf({TASK_FRAME, panel})) &&
         std::all_of(identities.begin(), identities.end(), [this](uint32_t identity) {
           const uint8_t state = slots_[TASK_IDENTITY].state(identity);
           return state == farm::v1::TASK_DONE || state == farm::v1::TASK_GRANTED;
         });
}

std::vector<uint32_t> Job::GoneAhead(uint32_t identity) const {
  std::vector<uint32_t> panels;
  for (const auto& set : head().frame_sets()) {
    const auto& identities = set.identities();
    if (std::find(identities.begin(), identities.end(), identity) == identities.end()) continue;
    for (uint32_t panel : set.panels()) {
      const Slot& slot = slots_[TASK_FRAME][panel];
      if (slot.ahead && slot.state == farm::v1::TASK_GRANTED) panels.push_back(panel);
    }
  }
  return panels;
}

const farm::v1::BlobRef* Job::EmbeddingsOf(uint32_t text) const {
  const auto embeddings = texts_.find(text);
  return embeddings == texts_.end() ? nullptr : &embeddings->second;
}

bool Job::IsTextNeeded(uint32_t text) const {
  const farm::v1::TextTask& task = head().texts(static_cast<int>(text));
  const auto open = [this](farm::v1::TaskKind kind, const auto& numbers) {
    return std::any_of(numbers.begin(), numbers.end(),
                       [&](uint32_t number) { return !IsFinal(slots_[kind].state(number)); });
  };
  return open(TASK_IDENTITY, task.identities()) || open(TASK_FRAME, task.panels());
}

void Job::DropUnneededText(uint32_t text) {
  if (text == kNoText || slots_[TASK_TEXT].state(text) != farm::v1::TASK_READY || IsTextNeeded(text)) return;
  SetState({TASK_TEXT, text}, farm::v1::TASK_DONE);
}

void Job::TextDone(uint32_t number, const farm::v1::BlobRef& embeddings) {
  texts_[number] = embeddings;
  problems_.erase({TASK_TEXT, number});
  aborts_.erase({TASK_TEXT, number});
  SetState({TASK_TEXT, number}, farm::v1::TASK_DONE);
  const farm::v1::TextTask& task = head().texts(static_cast<int>(number));
  for (uint32_t identity : task.identities()) {
    if (slots_[TASK_IDENTITY].state(identity) == farm::v1::TASK_BLOCKED) {
      SetState({TASK_IDENTITY, identity}, farm::v1::TASK_READY);
    }
  }
  WakeFrames(task.panels());
  UpdateBook();
}

void Job::TextFinished(uint32_t number, const farm::v1::TextResult& result) {
  JobNode& node = nodes_[slots_[TASK_TEXT][number].node - 1];
  if (node.tasks_done < UINT32_MAX) ++node.tasks_done;
  TextDone(number, result.embeddings());
}

void Job::TextTaken(uint32_t number, const farm::v1::BlobRef& embeddings) {
  Slot& slot = mutable_slot({TASK_TEXT, number});
  slot.token = Token();  // nobody's result is wanted any more
  slot.node = 0;
  TextDone(number, embeddings);
}

void Job::TextReopened(uint32_t number) {
  texts_.erase(number);
  mutable_slot({TASK_TEXT, number}).token = Token();  // the result that made the lost file is not taken once more
  SetState({TASK_TEXT, number}, farm::v1::TASK_READY);
  const farm::v1::TextTask& task = head().texts(static_cast<int>(number));
  const auto block = [this](farm::v1::TaskKind kind, const auto& numbers) {
    for (uint32_t each : numbers) {
      if (slots_[kind].state(each) == farm::v1::TASK_READY) SetState({kind, each}, farm::v1::TASK_BLOCKED);
    }
  };
  block(TASK_IDENTITY, task.identities());
  block(TASK_FRAME, task.panels());
}

}  // namespace storyfarm::coordinator
