#include "coordinator/core/spread.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace storyfarm::coordinator {
namespace {

// Rounds of halving: the level of time is then known to a billionth of the range.
constexpr int kRounds = 30;

}  // namespace

double FinishedBy(const Runner& runner, double level_s) {
  const double left_s = level_s - runner.start_s;
  // A rounding error must not cost a runner its last task.
  return left_s <= 0 ? 0 : std::floor(left_s / runner.task_s * (1 + 1e-9) + 1e-6);
}

double LevelFor(const std::vector<Runner>& runners, double tasks) {
  double low = std::numeric_limits<double>::infinity();   // the first task is finished
  double high = std::numeric_limits<double>::infinity();  // the best runner alone has finished all
  for (const Runner& runner : runners) {
    low = std::min(low, runner.start_s + runner.task_s);
    high = std::min(high, runner.start_s + runner.task_s * std::max(tasks, 1.0));
  }
  for (int round = 0; round < kRounds && low < high; ++round) {
    const double level = (low + high) / 2;
    double sum = 0;
    for (const Runner& runner : runners) sum += FinishedBy(runner, level);
    (sum >= tasks ? high : low) = level;
  }
  return high;
}

}  // namespace storyfarm::coordinator
