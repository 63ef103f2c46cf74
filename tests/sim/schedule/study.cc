#include "tests/sim/schedule/study.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "tests/sim/schedule/bound.h"
#include "tests/sim/schedule/outcome.h"

namespace storyfarm::schedule {

Quantiles QuantilesOf(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&values](double share) {
    return values[static_cast<size_t>(std::ceil(share * static_cast<double>(values.size()))) - 1];
  };
  return {at(0.5), at(0.95), values.back()};
}

std::vector<Study> RunStudy(uint64_t first_seed, uint32_t scenarios, const Shape& shape,
                            const std::function<void(const Scenario&, const std::vector<double>&)>& told) {
  std::vector<Study> studies(3);
  studies[0].scheduler = "storyfarm";
  studies[1].scheduler = "first come";
  studies[2].scheduler = "equal shares";
  for (uint32_t i = 0; i < scenarios; ++i) {
    const Scenario scenario = Draw(first_seed + i, shape);
    const double bound_s = LowerBound(scenario);
    const std::function<Outcome()> runs[] = {[&] { return RunFarm(scenario, bound_s); },
                                             [&] { return RunFirstCome(scenario); },
                                             [&] { return RunEqualShares(scenario); }};
    std::vector<double> ratios;
    for (size_t s = 0; s < studies.size(); ++s) {
      const auto began = std::chrono::steady_clock::now();
      const Outcome outcome = runs[s]();
      studies[s].seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
      if (!outcome.finished) {
        ++studies[s].unfinished;
        ratios.push_back(kForever);
        continue;
      }
      ratios.push_back(outcome.makespan_s / bound_s);
      studies[s].ratios.push_back(ratios.back());
      for (size_t story = 0; story < scenario.stories.size(); ++story) {
        const Story& is = scenario.stories[story];
        if (!is.small) continue;
        studies[s].small_ratios.push_back((outcome.ends_s[story] - is.arrival_s) / LowerBoundOf(scenario, is));
      }
    }
    if (told) told(scenario, ratios);
  }
  return studies;
}

}  // namespace storyfarm::schedule
