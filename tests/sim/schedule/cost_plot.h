// A picture of what decisions cost: microseconds against nodes, and against frames, both on logarithmic axes, where a
// cost that grows like the logarithm is a straight line.
#ifndef STORYFARM_TESTS_SIM_SCHEDULE_COST_PLOT_H_
#define STORYFARM_TESTS_SIM_SCHEDULE_COST_PLOT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace storyfarm::schedule {

struct Cost {
  uint32_t nodes = 0;
  uint32_t frames = 0;
  double microseconds = 0;
};

// SVG. `costs` is not empty.
std::string DrawCosts(const std::vector<Cost>& costs);

}  // namespace storyfarm::schedule

#endif  // STORYFARM_TESTS_SIM_SCHEDULE_COST_PLOT_H_
