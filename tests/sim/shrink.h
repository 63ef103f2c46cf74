// The fewest faults that break a rule: delta debugging (Zeller and Hildebrandt 2002, "Simplifying and isolating
// failure-inducing input"), over the list of faults.
#ifndef STORYFARM_TESTS_SIM_SHRINK_H_
#define STORYFARM_TESTS_SIM_SHRINK_H_

#include <cstddef>
#include <vector>

#include "tests/sim/fault.h"
#include "tests/sim/rule.h"
#include "tests/sim/sim.h"

namespace storyfarm::sim {

// Runs tried at most: a minute or two.
inline constexpr size_t kMostShrinkRuns = 2000;

// Of `faults`, which break `rule` with these options, some that break it too and of which none can be left out (as far
// as kMostShrinkRuns tell).
std::vector<Fault> Shrink(const Options& options, const std::vector<Fault>& faults, Rule rule);

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_SHRINK_H_
