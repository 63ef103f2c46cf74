// Failed tasks of a job that are tried once more, and the pages on which stand-ins took their places.
#include <algorithm>

#include "coordinator/core/job.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_PAGE;

}  // namespace

std::vector<TaskKey> Job::Retriable(const std::optional<TaskKey>& only) const {
  const auto failed = [this](farm::v1::TaskKind kind, uint32_t number) {
    const Slot* slot = this->slot(kind, number);
    return slot != nullptr && slot->state == farm::v1::TASK_FAILED;
  };
  std::set<TaskKey> tasks;
  if (!only.has_value()) {
    for (const auto kind : {TASK_IDENTITY, TASK_FRAME, TASK_PAGE}) {
      for (uint32_t i = 0; i < size(kind); ++i) {
        if (failed(kind, i)) tasks.emplace(kind, i);
      }
    }
  } else if (failed(only->first, only->second)) {
    tasks.insert(*only);
    if (only->first == TASK_FRAME) {
      // A frame whose identity failed can't be drawn without it.
      for (uint32_t i = 0; i < size(TASK_IDENTITY); ++i) {
        const std::vector<uint32_t> panels = PanelsOf(i);
        const bool needed = std::find(panels.begin(), panels.end(), only->second) != panels.end();
        if (needed && failed(TASK_IDENTITY, i)) tasks.emplace(TASK_IDENTITY, i);
      }
    }
    std::vector<uint32_t> identities;
    for (const TaskKey& task : tasks) {
      if (task.first == TASK_IDENTITY) identities.push_back(task.second);
    }
    for (const uint32_t identity : identities) {
      for (const uint32_t panel : PanelsOf(identity)) {
        if (failed(TASK_FRAME, panel)) tasks.emplace(TASK_FRAME, panel);
      }
    }
  }
  return {tasks.begin(), tasks.end()};
}

std::vector<uint32_t> Job::PagesWith(const std::vector<TaskKey>& tasks) const {
  std::set<uint32_t> pages;
  for (const auto& [kind, number] : tasks) {
    if (kind == TASK_PAGE) pages.insert(number);
    if (kind == TASK_FRAME && page_of_[number] < size(TASK_PAGE)) pages.insert(page_of_[number]);
  }
  if (size(TASK_PAGE) > 0 && spec_->pages(spec_->pages_size() - 1).book()) pages.insert(size(TASK_PAGE) - 1);
  return {pages.begin(), pages.end()};
}

void Job::Reopen(const TaskKey& task, farm::v1::TaskState state) {
  Slot& slot = mutable_slot(task);
  slot.token = Token();  // no result made before is taken
  slot.own_tries = 0;
  slot.machine_faults = 0;
  slot.alone = false;
  problems_.erase(task);
  aborts_.erase(task);
  SetState(task, state);
}

void Job::Retried(const std::vector<TaskKey>& tasks) {
  for (const uint32_t page : PagesWith(tasks)) {
    page_results_.erase(page);
    Reopen({TASK_PAGE, page}, farm::v1::TASK_BLOCKED);
  }
  for (const TaskKey& task : tasks) {
    if (task.first == TASK_IDENTITY) Reopen(task, farm::v1::TASK_READY);
    if (task.first != TASK_FRAME) continue;
    // An identity's own panels come with it.
    const bool own = owner_[task.second] < 0;
    Reopen(task, own ? farm::v1::TASK_BLOCKED : WaitingState(task));
  }
  for (const uint32_t page : PagesWith(tasks)) {
    const bool book = spec_->pages(static_cast<int>(page)).book();
    if (!book && panels_missing_[page] == 0) SetState({TASK_PAGE, page}, farm::v1::TASK_READY);
  }
  UpdateBook();
}

void Job::FrameReopened(uint32_t panel) {
  if (const uint32_t page = page_of_[panel]; page < panels_missing_.size()) ++panels_missing_[page];
}

}  // namespace storyfarm::coordinator
