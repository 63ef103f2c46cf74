// What came of one scenario under one scheduler.
#ifndef STORYFARM_TESTS_SIM_SCHEDULE_OUTCOME_H_
#define STORYFARM_TESTS_SIM_SCHEDULE_OUTCOME_H_

#include <vector>

#include "tests/sim/schedule/scenario.h"

namespace storyfarm::schedule {

struct Outcome {
  bool finished = false;       // every frame of every story
  double makespan_s = 0;       // the end of the last frame
  std::vector<double> ends_s;  // of each story
};

// The farm's own: the real coordinator/core, workers with its protocol, a network of 10 ms, fetched banks.
// Given up after 50 times `bound_s`.
Outcome RunFarm(const Scenario& scenario, double bound_s);

// The simple ones. They pay neither for messages nor for banks, hear at once of everything, and know what fits where.
// First come, first served: whatever machine is free takes the oldest story's next frame.
Outcome RunFirstCome(const Scenario& scenario);
// Equal shares: the frames of a story are dealt out to the machines that are there, the same number to each.
Outcome RunEqualShares(const Scenario& scenario);

}  // namespace storyfarm::schedule

#endif  // STORYFARM_TESTS_SIM_SCHEDULE_OUTCOME_H_
