#include "coordinator/core/spread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

namespace storyfarm::coordinator {
namespace {

using ::testing::ElementsAre;

// What each has finished by the level.
std::vector<uint32_t> Spread(const std::vector<Runner>& runners, uint32_t tasks) {
  const double level_s = LevelFor(runners, tasks);
  std::vector<uint32_t> shares;
  for (const Runner& runner : runners) {
    shares.push_back(static_cast<uint32_t>(std::min<double>(FinishedBy(runner, level_s), tasks)));
  }
  return shares;
}

TEST(Spread, FasterRunnersGetMoreInProportion) {
  EXPECT_THAT(Spread({{0, 1}, {0, 2}, {0, 4}}, 7), ElementsAre(4, 2, 1));
}

TEST(Spread, TheLastTaskGoesToTheOneThatFinishesItSooner) {
  EXPECT_THAT(Spread({{0, 100}, {50, 1}}, 1), ElementsAre(0, 1));
  EXPECT_THAT(Spread({{0, 100}, {150, 1}}, 1), ElementsAre(1, 0));
}

TEST(Spread, EqualRunnersGetEqualShares) { EXPECT_THAT(Spread({{0, 3}, {0, 3}, {0, 3}}, 3), ElementsAre(1, 1, 1)); }

TEST(Spread, OneRunnerGetsAllAndWithoutOneItNeverEnds) {
  EXPECT_THAT(Spread({{7, 0.1}}, 20000), ElementsAre(20000));
  EXPECT_TRUE(std::isinf(LevelFor({}, 5)));
}

// Against giving the tasks out one by one to whoever finishes the next one first, which is optimal for equal tasks.
TEST(Spread, IsAsGoodAsTheGreedyOrderForRandomFleets) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<Runner> runners(1 + random() % 8);
    for (Runner& runner : runners) {
      runner.start_s = static_cast<double>(random() % 1000) / 10;
      runner.task_s = static_cast<double>(1 + random() % 1000) / 10;
    }
    const auto tasks = static_cast<uint32_t>(1 + random() % 200);
    std::vector<uint32_t> given(runners.size(), 0);
    double best = 0;
    for (uint32_t i = 0; i < tasks; ++i) {
      size_t next = 0;
      auto finish = [&](size_t r) { return runners[r].start_s + runners[r].task_s * (given[r] + 1); };
      for (size_t r = 1; r < runners.size(); ++r) {
        if (finish(r) < finish(next)) next = r;
      }
      best = std::max(best, finish(next));
      ++given[next];
    }
    const std::vector<uint32_t> shares = Spread(runners, tasks);
    EXPECT_GE(std::accumulate(shares.begin(), shares.end(), uint64_t{0}), tasks);
    for (size_t r = 0; r < runners.size(); ++r) {
      if (shares[r] > 0) {
        EXPECT_LE(runners[r].start_s + runners[r].task_s * shares[r], best * (1 + 1e-6));
      }
    }
  }
}

}  // namespace
}  // namespace storyfarm::coordinator
