// Many scenarios under three schedulers, as ratios to the lower bound.
#ifndef STORYFARM_TESTS_SIM_SCHEDULE_STUDY_H_
#define STORYFARM_TESTS_SIM_SCHEDULE_STUDY_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/sim/schedule/scenario.h"

namespace storyfarm::schedule {

struct Quantiles {
  double median = 0;
  double p95 = 0;
  double worst = 0;
};
Quantiles QuantilesOf(std::vector<double> values);

// One a scheduler.
struct Study {
  std::string scheduler;
  std::vector<double> ratios;  // makespan over the lower bound, a scenario each
  std::vector<double>
      small_ratios;             // time from arrival to end over what it takes alone at the least, a small story each
  uint32_t unfinished = 0;      // scenarios given up
  std::vector<double> seconds;  // of this machine's time
};

// The farm first, then the simple ones. `told` is called after each scenario with its ratios, in this order.
std::vector<Study> RunStudy(uint64_t first_seed, uint32_t scenarios, const Shape& shape,
                            const std::function<void(const Scenario&, const std::vector<double>&)>& told = {});

}  // namespace storyfarm::schedule

#endif  // STORYFARM_TESTS_SIM_SCHEDULE_STUDY_H_
