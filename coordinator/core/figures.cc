#include <map>
#include <utility>

#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {

farm::v1::Figures Farm::Count() const {
  const State& state = parts_->state;
  farm::v1::Figures figures;
  std::map<farm::v1::JobState, uint64_t> jobs;
  std::map<std::pair<farm::v1::TaskKind, farm::v1::TaskState>, uint64_t> tasks;
  for (const auto& [id, job] : state.jobs()) {
    ++jobs[job.state];
    if (state.live().count(job.ordinal()) == 0) continue;
    if (job.paused) figures.set_jobs_paused(figures.jobs_paused() + 1);
    for (const auto kind : {farm::v1::TASK_IDENTITY, farm::v1::TASK_FRAME, farm::v1::TASK_PAGE}) {
      for (const auto task_state : {farm::v1::TASK_BLOCKED, farm::v1::TASK_READY, farm::v1::TASK_GRANTED,
                                    farm::v1::TASK_DONE, farm::v1::TASK_FAILED, farm::v1::TASK_CANCELLED}) {
        if (const uint64_t count = job.count(kind, task_state); count > 0) tasks[{kind, task_state}] += count;
      }
    }
  }
  for (const auto& [job_state, count] : jobs) {
    farm::v1::JobCount& entry = *figures.add_jobs();
    entry.set_state(job_state);
    entry.set_jobs(count);
  }
  for (const auto& [key, count] : tasks) {
    farm::v1::TaskCount& entry = *figures.add_tasks();
    entry.set_kind(key.first);
    entry.set_state(key.second);
    entry.set_tasks(count);
  }
  figures.set_jobs_archived(state.archived().size());
  figures.set_dispatch_held(parts_->dispatch_held);
  return figures;
}

}  // namespace storyfarm::coordinator
