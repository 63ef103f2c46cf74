// What a session gives an engine ahead of time, and beside what it draws.
#include <gtest/gtest.h>

#include "tests/worker/core/bench.h"

namespace storyfarm::worker {
namespace {

using farm::v1::WorkerMessage;

TEST(EngineRuns, GivesAnEngineItsNextSliceAtTheLastStepOfTheOneBefore) {
  Bench bench;
  bench.Start();
  const StartRun first = bench.StartGrant(FramesGrant(1, 0, 10, 6, /*batch=*/2));
  EXPECT_TRUE(Bench::Of<StartRun>(bench.Do(StepReached{first.run, {10, 11}, 2, 3})).empty());
  const auto second = Bench::Of<StartRun>(bench.Do(StepReached{first.run, {10, 11}, 3, 3}));
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].work.frames().frames(0).panel(), 12U);
  EXPECT_TRUE(Bench::Of<StartRun>(bench.Do(StepReached{second[0].run, {12, 13}, 3, 3})).empty())
      << "a third waits until the first one's pictures are there";
  bench.Do(Stored(first.run, 10));
  bench.Do(Stored(first.run, 11));
  EXPECT_EQ(Bench::Of<StartRun>(bench.Do(RunEnded{first.run, 0, 0})).size(), 1U);
  EXPECT_EQ(bench.session.outbox_size(), 2U);
}

TEST(EngineRuns, GivesAnEngineTheNextGroupAheadToo) {
  Bench bench;
  bench.Start();
  const StartRun first = bench.StartGrant(FramesGrant(1, 0, 0, 1));
  bench.Hear(FramesGrant(2, 0, 1, 1));
  bench.Do(Prepared{Token(2)});
  ASSERT_EQ(Bench::Of<Measure>(bench.Do(StepReached{first.run, {0}, 3, 3})).size(), 1U);
  EXPECT_EQ(Bench::Of<StartRun>(bench.Do(MemoryMeasured{0, Memory(0, 4'000'000'000)})).size(), 1U);
}

TEST(EngineRuns, ComposesPagesBesideWhatIsDrawnButNotInItsMemory) {
  for (const bool unified : {false, true}) {
    Bench bench(1, {}, Limits(), unified);
    bench.Start();
    const StartRun frames = bench.StartGrant(FramesGrant(1, 0, 0, 1));
    bench.Hear(PageGrant(2, 0));
    EXPECT_EQ(Bench::Of<StartRun>(bench.Do(Prepared{Token(2)})).size(), unified ? 0U : 1U);
    bench.Do(Stored(frames.run, 0));
    EXPECT_EQ(Bench::Of<StartRun>(bench.Do(RunEnded{frames.run, 0, 0})).size(), unified ? 1U : 0U);
  }
}

TEST(EngineRuns, AnEngineThatEndsIsBlamedOnWhatItDrewAndTheRestStartsAgain) {
  Bench bench;
  bench.Start();
  const StartRun first = bench.StartGrant(FramesGrant(1, 0, 10, 3));
  const auto second = Bench::Of<StartRun>(bench.Do(StepReached{first.run, {10}, 3, 3}));
  ASSERT_EQ(second.size(), 1U);
  bench.Do(StepReached{second[0].run, {11}, 1, 3});
  farm::v1::Failure failure;
  failure.set_kind(farm::v1::ENGINE_ABORTED);
  bench.Do(EngineEnded{0, failure});
  const auto faults = bench.All(WorkerMessage::kFault);
  ASSERT_EQ(faults.size(), 1U);
  ASSERT_EQ(faults[0].fault().tasks_size(), 1);
  EXPECT_EQ(faults[0].fault().tasks(0).number(), 11U);
  bench.Wait(1000);
  const auto again = Bench::Of<StartRun>(bench.Do(EngineReady{0}));
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].work.frames().frames(0).panel(), 10U) << "its pictures were not told of yet";
}

}  // namespace
}  // namespace storyfarm::worker
