#include "tests/sim/shrink.h"

#include <algorithm>

namespace storyfarm::sim {

std::vector<Fault> Shrink(const Options& options, const std::vector<Fault>& faults, Rule rule) {
  std::vector<Fault> left = faults;
  size_t runs = 0;
  // Takes out one chunk after the other, in ever smaller chunks.
  for (size_t chunk = std::max<size_t>(1, left.size()); chunk > 0 && runs < kMostShrinkRuns;) {
    bool shrunk = false;
    for (size_t at = 0; at < left.size() && runs < kMostShrinkRuns;) {
      std::vector<Fault> fewer(left.begin(), left.begin() + static_cast<long>(at));
      fewer.insert(fewer.end(), left.begin() + static_cast<long>(std::min(left.size(), at + chunk)), left.end());
      ++runs;
      const Outcome outcome = Simulate(options, fewer);
      if (outcome.violation.has_value() && outcome.violation->rule == rule) {
        left = std::move(fewer);
        shrunk = true;
      } else {
        at += chunk;
      }
    }
    // Faults may have come to be needless by what else was left out.
    if (chunk == 1 && shrunk) continue;
    chunk /= 2;
  }
  return left;
}

}  // namespace storyfarm::sim
