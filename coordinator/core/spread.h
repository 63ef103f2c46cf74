// How tasks of one kind are best spread over devices of different speeds: arithmetic alone.
//
// Filling every device up to one level of time is optimal for equal tasks: what a device has finished by the level is
// its share, and a device that could not finish one task by then gets none.
#ifndef STORYFARM_COORDINATOR_CORE_SPREAD_H_
#define STORYFARM_COORDINATOR_CORE_SPREAD_H_

#include <cstdint>
#include <vector>

namespace storyfarm::coordinator {

// One device: it may begin at `start_s` and then takes `task_s` seconds (above 0) for each task.
struct Runner {
  double start_s = 0;
  double task_s = 1;
};

// The least time by which the runners together can have finished `tasks` (at least 1), to a billionth of its range.
// Infinite for no runners.
double LevelFor(const std::vector<Runner>& runners, double tasks);

// Whole tasks that the runner has finished by the level.
double FinishedBy(const Runner& runner, double level_s);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_SPREAD_H_
