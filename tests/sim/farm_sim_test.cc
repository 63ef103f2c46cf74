// The simulation itself: its runs repeat, fixed seeds hold every rule, and each planted bug is caught by the rule that
// it breaks. Fresh seeds are for farm_sim.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/shrink.h"
#include "tests/sim/sim.h"

namespace storyfarm::sim {
namespace {

// Whoever plants a bug waits this long at most until it is seen.
constexpr uint64_t kSeedsForAMutant = 150;

Outcome RunSeed(Options options, uint64_t seed) {
  options.seed = seed;
  return Simulate(options, DrawFaults(options));
}

std::string Explain(const Outcome& outcome) {
  if (!outcome.violation.has_value()) return "";
  return std::string(SentenceOf(outcome.violation->rule)) + ": " + outcome.violation->what;
}

TEST(FarmSim, FinishesOneStoryOnTwoNodesWithoutFaults) {
  Options options;
  options.nodes = 2;
  options.jobs = 1;
  const Outcome outcome = Simulate(options, {});
  EXPECT_EQ(Explain(outcome), "");
  EXPECT_GT(outcome.counts.results, 12U);
  EXPECT_EQ(outcome.counts.node_failures, 0U);
  EXPECT_EQ(outcome.counts.coordinator_starts, 1U);
}

TEST(FarmSim, GivesTheSameRunForTheSameSeed) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    Options options;
    options.trace = true;
    const Outcome one = RunSeed(options, seed);
    const Outcome other = RunSeed(options, seed);
    EXPECT_GT(one.trace.size(), 100U);
    EXPECT_EQ(one.trace, other.trace);
    EXPECT_EQ(one.counts.steps, other.counts.steps);
  }
}

TEST(FarmSim, HoldsEveryRuleUnderMixedFaults) {
  Counts counts;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    const Outcome outcome = RunSeed({}, seed);
    ASSERT_EQ(Explain(outcome), "");
    counts.Add(outcome.counts);
  }
  EXPECT_GT(counts.faults, 2000U);
  EXPECT_GT(counts.coordinator_starts, 200U);
  EXPECT_GT(counts.results, 5000U);
  EXPECT_GT(counts.pack_hits, 10U);
}

TEST(FarmSim, HoldsEveryRuleWhileNodesDieAllTheTime) {
  Options options;
  options.storm = true;
  Counts counts;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE(seed);
    const Outcome outcome = RunSeed(options, seed);
    ASSERT_EQ(Explain(outcome), "");
    counts.Add(outcome.counts);
  }
  EXPECT_GT(counts.node_failures, 2000U);
  EXPECT_GT(2 * counts.holders_failed, counts.node_failures);
}

class Mutants : public testing::TestWithParam<MutantInfo> {};

TEST_P(Mutants, AreCaughtByARuleThatTheyBreak) {
  const MutantInfo& mutant = GetParam();
  Options options;
  options.mutant = mutant.mutant;
  for (uint64_t seed = 1; seed <= kSeedsForAMutant; ++seed) {
    const Outcome outcome = RunSeed(options, seed);
    if (!outcome.violation.has_value()) continue;
    const Rule rule = outcome.violation->rule;
    EXPECT_NE(std::find(mutant.breaks.begin(), mutant.breaks.end(), rule), mutant.breaks.end())
        << "seed " << seed << " broke another rule: " << Explain(outcome);
    return;
  }
  FAIL() << "no seed caught it";
}

INSTANTIATE_TEST_SUITE_P(All, Mutants, testing::ValuesIn(AllMutants()), [](const auto& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(MutantList, HasOneForEachRule) {
  std::set<Rule> broken;
  for (const MutantInfo& mutant : AllMutants()) broken.insert(mutant.breaks.begin(), mutant.breaks.end());
  for (int i = 0; i < kRuleCount; ++i) EXPECT_EQ(broken.count(static_cast<Rule>(i)), 1U) << SentenceOf(Rule(i));
}

TEST(Shrink, LeavesNoFaultThatCanBeLeftOut) {
  Options options;
  options.mutant = Mutant::kAttemptNotChecked;
  Outcome outcome;
  while (!outcome.violation.has_value()) outcome = RunSeed(options, ++options.seed);
  const std::vector<Fault> faults = DrawFaults(options);
  const std::vector<Fault> left = Shrink(options, faults, outcome.violation->rule);
  EXPECT_LT(left.size(), faults.size());
  ASSERT_FALSE(left.empty());
  const Outcome shrunk = Simulate(options, left);
  ASSERT_TRUE(shrunk.violation.has_value());
  EXPECT_EQ(shrunk.violation->rule, outcome.violation->rule);
  for (size_t i = 0; i < left.size(); ++i) {
    std::vector<Fault> fewer = left;
    fewer.erase(fewer.begin() + static_cast<long>(i));
    const Outcome without = Simulate(options, fewer);
    EXPECT_FALSE(without.violation.has_value() && without.violation->rule == outcome.violation->rule);
  }
}

}  // namespace
}  // namespace storyfarm::sim
