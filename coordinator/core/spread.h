// How tasks of one kind are best spread over devices of different speeds: arithmetic alone.
#ifndef STORYFARM_COORDINATOR_CORE_SPREAD_H_
#define STORYFARM_COORDINATOR_CORE_SPREAD_H_

#include <cstdint>
#include <vector>

namespace storyfarm::coordinator {

// One device: it may begin after `start_s` seconds and then takes `task_s` (above 0) for each task.
struct Runner {
  double start_s = 0;
  double task_s = 1;
};

// How many tasks each runner has finished by the least time at which all together have finished `tasks`. The sum is at
// least `tasks`, and more only where several finish one at that very time. Empty for no runners.
std::vector<uint32_t> Spread(const std::vector<Runner>& runners, uint32_t tasks);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_SPREAD_H_
