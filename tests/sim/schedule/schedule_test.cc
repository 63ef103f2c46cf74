// The scheduler against the lower bound, over fixed seeds; the long run is schedule_sim.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/sim/schedule/bound.h"
#include "tests/sim/schedule/outcome.h"
#include "tests/sim/schedule/study.h"

namespace storyfarm::schedule {
namespace {

Machine MakeMachine(double frame_s) {
  Machine machine;
  machine.frame_s = frame_s;
  machine.memory_bytes = 10;
  machine.windows.emplace_back();
  return machine;
}

Story MakeStory(uint32_t frames, uint32_t identity_frames) {
  Story story;
  story.frames = frames;
  story.needed_bytes = 5;
  farm::v1::FrameSet& set = *story.spec.add_frame_sets();
  for (uint32_t i = 0; i < frames; ++i) set.add_panels(i);
  if (identity_frames == 0) return story;
  set.add_identities(0);
  farm::v1::IdentityTask& identity = *story.spec.add_identities();
  for (uint32_t i = 0; i < identity_frames; ++i) identity.add_panels(frames + i);
  return story;
}

TEST(LowerBound, CountsWholeFrames) {
  Scenario scenario;
  scenario.machines = {MakeMachine(10), MakeMachine(100)};
  scenario.stories = {MakeStory(9, 0)};
  EXPECT_NEAR(LowerBound(scenario), 90, 1e-6);  // the slow one has none done by then
  scenario.stories = {MakeStory(11, 0)};
  EXPECT_NEAR(LowerBound(scenario), 100, 1e-6);  // ten and one
}

TEST(LowerBound, WaitsForTheIdentityStage) {
  Scenario scenario;
  scenario.machines = {MakeMachine(10), MakeMachine(10)};
  scenario.stories = {MakeStory(2, 4)};
  EXPECT_NEAR(LowerBound(scenario), 50, 1e-6);  // a pass of 40 s on one, then a frame on each
}

TEST(LowerBound, CountsArrivalsOfWorkAndMachinesAndMemory) {
  Scenario scenario;
  scenario.machines = {MakeMachine(10), MakeMachine(10)};
  scenario.machines[1].windows[0].from_s = 35;
  scenario.stories = {MakeStory(4, 0)};
  EXPECT_NEAR(LowerBound(scenario), 40, 1e-6);
  scenario.stories[0].arrival_s = 100;
  EXPECT_NEAR(LowerBound(scenario), 120, 1e-6);
  scenario.machines[0].memory_bytes = 4;
  EXPECT_NEAR(LowerBound(scenario), 140, 1e-6);
}

TEST(Schedule, IsWithinATenthOfTheLowerBoundInTheMedianAndAQuarterInNearlyAll) {
  const std::vector<Study> studies = RunStudy(1, 20, Shape());
  const Quantiles farm = QuantilesOf(studies[0].ratios);
  EXPECT_EQ(studies[0].unfinished, 0u);
  EXPECT_THAT(studies[0].ratios, ::testing::Each(::testing::Ge(1.0))) << "the bound is none";
  EXPECT_LE(farm.median, 1.10);
  EXPECT_LE(farm.p95, 1.25);
  for (size_t simple : {1, 2}) {
    EXPECT_THAT(studies[simple].ratios, ::testing::Each(::testing::Ge(1.0))) << "the bound is none";
    EXPECT_GT(QuantilesOf(studies[simple].ratios).median, farm.median) << studies[simple].scheduler;
  }
}

TEST(Schedule, TheSameSeedGivesTheSameSchedule) {
  const Scenario scenario = Draw(7, Shape());
  const double bound_s = LowerBound(scenario);
  EXPECT_EQ(RunFarm(scenario, bound_s).ends_s, RunFarm(scenario, bound_s).ends_s);
}

}  // namespace
}  // namespace storyfarm::schedule
