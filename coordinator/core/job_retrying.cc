// Failed tasks of a job that are tried once more, and the pages on which stand-ins took their places.
#include <algorithm>
#include <iterator>
#include <set>

#include "coordinator/core/job.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_PAGE;
using farm::v1::TASK_TEXT;

}  // namespace

std::vector<TaskKey> Job::Retriable(const std::optional<TaskKey>& only) const {
  const auto failed = [this](const TaskKey& task) {
    const Slot* slot = this->slot(task.first, task.second);
    return slot != nullptr && slot->state == farm::v1::TASK_FAILED;
  };
  std::set<TaskKey> tasks;
  if (!only.has_value()) {
    for (const auto kind : {TASK_TEXT, TASK_IDENTITY, TASK_FRAME, TASK_PAGE}) {
      for (uint32_t i = 0; i < size(kind); ++i) {
        if (failed({kind, i})) tasks.emplace(kind, i);
      }
    }
    return {tasks.begin(), tasks.end()};
  }
  if (!failed(*only)) return {};
  tasks.insert(*only);
  for (const auto kind : {TASK_TEXT, TASK_IDENTITY}) {
    for (uint32_t i = 0; i < size(kind); ++i) {
      const TaskKey source = {kind, i};
      if (!failed(source)) continue;
      const std::vector<TaskKey> dependents = DependentsOf(source);
      const bool needed = source == *only || std::find(dependents.begin(), dependents.end(), *only) != dependents.end();
      if (!needed) continue;
      tasks.insert(source);
      std::copy_if(dependents.begin(), dependents.end(), std::inserter(tasks, tasks.end()), failed);
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
  if (size(TASK_PAGE) > 0 && head().pages(head().pages_size() - 1).book()) pages.insert(size(TASK_PAGE) - 1);
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
    if (task.first == TASK_PAGE) continue;
    // Its prompts may not have been encoded where nothing was to read them any more.
    const uint32_t text = task.first == TASK_TEXT ? task.second : TextOf(task);
    if (LacksText(text) && IsFinal(slots_[TASK_TEXT].state(text))) Reopen({TASK_TEXT, text}, farm::v1::TASK_READY);
    if (task.first == TASK_IDENTITY) Reopen(task, WaitingState(task));
    if (task.first != TASK_FRAME) continue;
    // An identity's own panels come with it.
    const bool own = owner_[task.second] < 0;
    Reopen(task, own ? farm::v1::TASK_BLOCKED : WaitingState(task));
  }
  for (const uint32_t page : PagesWith(tasks)) {
    const bool book = head().pages(static_cast<int>(page)).book();
    if (!book && panels_missing_[page] == 0) SetState({TASK_PAGE, page}, farm::v1::TASK_READY);
  }
  UpdateBook();
}

void Job::FrameReopened(uint32_t panel) {
  if (const uint32_t page = page_of_[panel]; page < panels_missing_.size()) ++panels_missing_[page];
}

}  // namespace storyfarm::coordinator
