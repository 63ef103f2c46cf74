// The owner's word on a running session, and what frames tell of a device's speed.
#include <gtest/gtest.h>

#include "tests/worker/core/bench.h"
#include "worker/core/session.h"
#include "worker/core/speeds.h"

namespace storyfarm::worker {
namespace {

using farm::v1::WorkerMessage;

TEST(Session, AnOwnerWhoIsBackGetsTheMachineAtOnceAndWhatRanGoesElsewhere) {
  Bench bench;
  bench.Start();
  bench.StartGrant(FramesGrant(1, 0, 0, 3));
  bench.Hear(FramesGrant(2, 0, 5, 1));
  const Actions actions = bench.Do(OwnerSays{"somebody uses it"});
  const auto sent = Bench::Sent(actions);
  ASSERT_EQ(sent.size(), 3U);
  ASSERT_TRUE(sent[0].has_heartbeat()) << "first, so that nothing of it comes back to this machine";
  EXPECT_EQ(sent[0].heartbeat().resting(), "somebody uses it");
  for (const size_t i : {1, 2}) {
    ASSERT_TRUE(sent[i].has_fault());
    EXPECT_EQ(sent[i].fault().failure().kind(), farm::v1::PREEMPTED);
    EXPECT_EQ(sent[i].fault().failure().message(), "somebody uses it");
  }
  EXPECT_EQ(sent[1].fault().tasks_size() + sent[2].fault().tasks_size(), 4);
  EXPECT_EQ(Bench::Of<StopEngine>(actions).size(), 1U);
  EXPECT_EQ(Bench::Of<Release>(actions).size(), 2U);
  EXPECT_EQ(bench.session.held_tasks(), 0U);
  bench.Do(EngineEnded{0, {}});
  bench.done.clear();
  bench.Wait(60'000);
  EXPECT_TRUE(Bench::Of<StartEngine>(bench.done).empty()) << "the memory stays the owner's";
  EXPECT_GT(bench.All(WorkerMessage::kHeartbeat).size(), 20U);
  const auto refused = Bench::Sent(bench.Hear(FramesGrant(3, 0, 9, 2)));
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].trim_reply().released_size(), 2);
}

TEST(Session, AMachineThatMayWorkAgainStartsItsEnginesAndSaysSo) {
  Bench bench;
  bench.Start();
  EXPECT_EQ(Bench::Of<StopEngine>(bench.Do(OwnerSays{"it runs on its battery"})).size(), 1U) << "warm ones, too";
  bench.Do(EngineEnded{0, {}});
  const auto said = Bench::Sent(bench.Do(OwnerSays{}));
  ASSERT_EQ(said.size(), 1U);
  EXPECT_EQ(said[0].heartbeat().resting(), "");
  bench.done.clear();
  bench.Wait(kTickMs);
  ASSERT_EQ(Bench::Of<StartEngine>(bench.done).size(), 1U);
  bench.Do(EngineReady{0});
  bench.StartGrant(FramesGrant(1, 0, 0, 1));
}

TEST(Session, AWorkerThatStartsWhileItsOwnerIsThereSaysSoInHello) {
  Bench bench;
  EXPECT_EQ(Bench::Of<StopEngine>(bench.Do(OwnerSays{"somebody uses it"})).size(), 1U) << "the engine of the probe";
  bench.Do(Connected{});
  const auto sent = Bench::Sent(bench.done);
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].hello().resting(), "somebody uses it");
}

TEST(Session, ResultsAreDeliveredWhileTheOwnerUsesTheMachine) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 1));
  bench.Do(Stored(run.run, 0));
  bench.Do(OwnerSays{"somebody uses it"});
  EXPECT_EQ(bench.session.outbox_size(), 1U);
  EXPECT_TRUE(bench.All(WorkerMessage::kFault).empty()) << "it was finished";
  bench.Do(Persisted{Token(1), FrameTask(0)});
  bench.Do(Uploaded{Blob("image0").digest()});
  bench.Do(Uploaded{Blob("latents0").digest()});
  EXPECT_EQ(bench.All(WorkerMessage::kResult).size(), 1U);
}

TEST(Session, AMachineThatIsTooHotFinishesWhatRunsAndTakesNothingNew) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 3));
  ASSERT_EQ(run.work.frames().frames_size(), 1) << "the others wait";
  const Actions actions = bench.Do(OwnerSays{"it is too hot", /*finish=*/true});
  const auto sent = Bench::Sent(actions);
  ASSERT_EQ(sent.size(), 2U);
  EXPECT_EQ(sent[0].heartbeat().resting(), "it is too hot");
  EXPECT_EQ(sent[1].fault().failure().kind(), farm::v1::PREEMPTED);
  EXPECT_EQ(sent[1].fault().tasks_size(), 2);
  EXPECT_TRUE(Bench::Of<StopEngine>(actions).empty());
  EXPECT_EQ(bench.session.held_tasks(), 1U);
  EXPECT_EQ(Bench::Sent(bench.Hear(FramesGrant(3, 0, 9, 1)))[0].trim_reply().released_size(), 1);
  bench.Do(Stored(run.run, 0));
  EXPECT_EQ(bench.session.outbox_size(), 1U);
  EXPECT_EQ(Bench::Of<StopEngine>(bench.Do(RunEnded{run.run})).size(), 1U) << "nothing runs on it now";
}

TEST(Session, AnOwnerWhoComesBackToAHotMachineIsNotMadeToWait) {
  Bench bench;
  bench.Start();
  bench.StartGrant(FramesGrant(1, 0, 0, 1));
  bench.Do(OwnerSays{"it is too hot", /*finish=*/true});
  EXPECT_EQ(bench.session.held_tasks(), 1U);
  EXPECT_EQ(Bench::Of<StopEngine>(bench.Do(OwnerSays{"somebody uses it"})).size(), 1U);
  EXPECT_EQ(bench.session.held_tasks(), 0U);
}

// ---- Leases -------------------------------------------------------------------------------------------------------

TEST(Session, IsLeasedWhileItHoldsATaskAndForOneLeaseAfterTheCoordinatorWent) {
  Bench bench;
  bench.Start();
  EXPECT_FALSE(bench.session.leased());
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 1));
  EXPECT_TRUE(bench.session.leased());
  bench.Do(Disconnected{});
  EXPECT_TRUE(bench.session.leased());
  bench.Wait(kLeaseMs - kTickMs);
  EXPECT_TRUE(bench.session.leased());
  bench.Do(Connected{});
  bench.Do(Disconnected{});
  bench.Wait(2 * kTickMs);
  EXPECT_FALSE(bench.session.leased()) << "a stream without a Welcome renews nothing";
  EXPECT_EQ(bench.session.held_tasks(), 1U) << "it is finished all the same";
  bench.Do(Stored(run.run, 0));
  EXPECT_FALSE(bench.session.leased());
}

TEST(Session, DrainingItIsLeasedUntilWhatRunsIsFinished) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 1));
  bench.Do(Drain{});
  EXPECT_TRUE(bench.session.leased());
  bench.Do(Stored(run.run, 0));
  bench.Do(RunEnded{run.run});
  EXPECT_FALSE(bench.session.leased());
}

// ---- The farm's limits --------------------------------------------------------------------------------------------

farm::v1::CoordinatorMessage Limited(uint64_t memory_bytes, const std::vector<std::string>& devices = {}) {
  farm::v1::CoordinatorMessage message;
  message.mutable_limits()->set_memory_bytes(memory_bytes);
  for (const std::string& device : devices) message.mutable_limits()->add_devices(device);
  return message;
}

TEST(Session, WhatIsBeyondTheFarmsLimitsGoesBackWithoutAFault) {
  Bench bench;
  bench.Start();
  farm::v1::CoordinatorMessage large = FramesGrant(1, 0, 0, 3);
  large.mutable_grant()->mutable_work()->mutable_frames()->mutable_plan()->set_predicted_peak_bytes(1'500'000'000);
  bench.StartGrant(large);
  bench.Hear(FramesGrant(2, 0, 5, 1));  // which takes less
  const Actions actions = bench.Hear(Limited(1'200'000'000));
  const auto sent = Bench::Sent(actions);
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].trim_reply().released_size(), 3);
  EXPECT_EQ(Bench::Of<StopEngine>(actions).size(), 1U);
  EXPECT_EQ(bench.session.held_tasks(), 1U);
  const auto limits = Bench::Of<Limit>(actions);
  ASSERT_EQ(limits.size(), 1U);
  EXPECT_EQ(limits[0].limits.memory_bytes(), 1'200'000'000U);
  EXPECT_TRUE(bench.All(WorkerMessage::kFault).empty());
}

TEST(Session, NothingStartsBeforeTheNewLimitsAreCountedWith) {
  Bench bench;
  bench.Start();
  const auto limits = Bench::Of<Limit>(bench.Hear(Limited(8'000'000'000)));
  ASSERT_EQ(limits.size(), 1U);
  bench.Hear(FramesGrant(1, 0, 0, 1));
  bench.done.clear();
  bench.Do(Prepared{Token(1)});
  bench.Do(OwnerSays{.resting = "", .limits = 0});  // asked before the limits came
  bench.Wait(5000);
  EXPECT_TRUE(Bench::Of<StartRun>(bench.done).empty());
  EXPECT_TRUE(Bench::Of<Measure>(bench.done).empty());
  EXPECT_EQ(Bench::Of<Measure>(bench.Do(OwnerSays{.resting = "", .limits = limits[0].number})).size(), 1U);
  EXPECT_EQ(Bench::Of<StartRun>(bench.Do(MemoryMeasured{0, Memory(0, 5'000'000'000)})).size(), 1U);
}

TEST(Session, TheSameLimitsOnceMoreAreNoChange) {
  Bench bench;
  bench.Start();
  EXPECT_EQ(Bench::Of<Limit>(bench.Hear(Limited(8'000'000'000))).size(), 1U);
  EXPECT_TRUE(Bench::Of<Limit>(bench.Hear(Limited(8'000'000'000))).empty());
  bench.Do(Disconnected{});
  bench.Do(Connected{});
  farm::v1::CoordinatorMessage welcome;
  welcome.mutable_welcome()->mutable_limits()->set_memory_bytes(8'000'000'000);
  EXPECT_TRUE(Bench::Of<Limit>(bench.Hear(welcome)).empty());
  bench.Do(Disconnected{});
  bench.Do(Connected{});
  welcome.mutable_welcome()->clear_limits();
  const auto lifted = Bench::Of<Limit>(bench.Hear(welcome));
  ASSERT_EQ(lifted.size(), 1U) << "taken away while it was not connected";
  EXPECT_EQ(lifted[0].limits.ByteSizeLong(), 0U);
}

TEST(Session, AnIdleEngineThatHoldsMoreThanTheLimitEndsAndComesBackSmaller) {
  Bench bench;
  bench.Start();
  farm::v1::DeviceMemory memory = Memory(0, 1000);
  memory.set_farm_bytes(700);
  bench.Do(MemoryMeasured{0, memory});
  EXPECT_EQ(Bench::Of<StopEngine>(bench.Hear(Limited(500))).size(), 1U);
  bench.Do(EngineEnded{0, {}});
  bench.done.clear();
  bench.Wait(kTickMs);
  EXPECT_EQ(Bench::Of<StartEngine>(bench.done).size(), 1U);
}

TEST(Session, AnEngineThatHoldsMoreThanTheLimitEndsWithTheGroupThatItMayFinish) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 1));
  farm::v1::DeviceMemory memory = Memory(0, 1'000'000'000);
  memory.set_farm_bytes(3'000'000'000);
  bench.Do(MemoryMeasured{0, memory});
  EXPECT_TRUE(Bench::Of<StopEngine>(bench.Hear(Limited(2'000'000'000))).empty()) << "its plan takes half of that";
  bench.Do(Stored(run.run, 0));
  EXPECT_EQ(Bench::Of<StopEngine>(bench.Do(RunEnded{run.run, 1, 1})).size(), 1U);
}

TEST(Session, ADeviceThatIsNotLentHasNoEngineAndTakesNothing) {
  Bench bench(2);
  bench.Start();
  // The bench's devices are processors.
  EXPECT_EQ(Bench::Of<StopEngine>(bench.Hear(Limited(0, {"cuda:0"}))).size(), 2U);
  bench.Do(EngineEnded{0, {}});
  bench.Do(EngineEnded{1, {}});
  bench.done.clear();
  bench.Wait(60'000);
  EXPECT_TRUE(Bench::Of<StartEngine>(bench.done).empty());
  const auto refused = Bench::Sent(bench.Hear(FramesGrant(3, 0, 9, 2)));
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].trim_reply().released_size(), 2);
  bench.done.clear();
  bench.Hear(Limited(0, {"cpu"}));
  bench.Wait(kTickMs);
  EXPECT_EQ(Bench::Of<StartEngine>(bench.done).size(), 2U);
}

// ---- Memory and speed ---------------------------------------------------------------------------------------------

TEST(Session, MemoryThatTheSystemIsAboutToAskBackIsNotCountedOn) {
  for (const auto& [pressure, runs] :
       {std::pair(farm::v1::PRESSURE_NORMAL, 1U), std::pair(farm::v1::PRESSURE_WARNING, 0U),
        std::pair(farm::v1::PRESSURE_CRITICAL, 0U)}) {
    Bench bench;
    bench.Start();
    farm::v1::CoordinatorMessage grant = FramesGrant(1, 0, 0, 1);
    grant.mutable_grant()->mutable_work()->mutable_frames()->mutable_plan()->set_predicted_peak_bytes(900);
    bench.Hear(grant);
    bench.Do(Prepared{Token(1)});
    farm::v1::DeviceMemory memory = Memory(0, 1000);
    memory.set_farm_bytes(100);
    memory.set_pressure(pressure);
    EXPECT_EQ(Bench::Of<StartRun>(bench.Do(MemoryMeasured{0, memory})).size(), runs);
  }
}

TEST(Session, WhatFramesTookIsKeptForTheNextStartAndToldInHello) {
  Bench bench;
  bench.Start();
  farm::v1::CoordinatorMessage grant = FramesGrant(1, 0, 0, 2);
  auto& work = *grant.mutable_grant()->mutable_work()->mutable_frames();
  work.mutable_model()->set_digest("model");
  work.mutable_plan()->set_predicted_seconds(4);  // 2 a frame
  const StartRun run = bench.StartGrant(grant);
  FrameStored stored = Stored(run.run, 0);
  stored.result.set_render_ms(6000);
  const auto kept = Bench::Of<KeepSpeeds>(bench.Do(stored));
  ASSERT_EQ(kept.size(), 1U);
  ASSERT_EQ(kept[0].speeds.size(), 1U);
  EXPECT_EQ(kept[0].speeds[0].model_digest(), "model");
  EXPECT_DOUBLE_EQ(kept[0].speeds[0].slowness(), 3.0);
  bench.Do(Disconnected{});
  bench.Do(Connected{});
  const farm::v1::WorkerMessage hello = Bench::Sent(bench.done).back();
  ASSERT_EQ(hello.hello().devices(0).speeds_size(), 1);
  EXPECT_DOUBLE_EQ(hello.hello().devices(0).speeds(0).slowness(), 3.0);
}

TEST(Speeds, TheNewestFramesCountMostAndSmallChangesAreNotWorthKeeping) {
  Speeds speeds;
  EXPECT_TRUE(speeds.Observe("a", 1, 2000));
  EXPECT_FALSE(speeds.Observe("a", 1, 2100)) << "1.5 %";
  EXPECT_TRUE(speeds.Observe("a", 1, 20'000));
  EXPECT_NEAR(speeds.List()[0].slowness(), 0.7 * 2.03 + 0.3 * 20, 1e-9);
  EXPECT_FALSE(speeds.Observe("a", 0, 1000)) << "nothing was predicted";
  for (size_t i = 0; i < kMostSpeeds; ++i) EXPECT_TRUE(speeds.Observe("model " + std::to_string(i), 1, 1000));
  EXPECT_EQ(speeds.List().size(), kMostSpeeds);
  EXPECT_EQ(speeds.List().front().model_digest(), "model " + std::to_string(kMostSpeeds - 1));
  for (const auto& speed : speeds.List()) EXPECT_NE(speed.model_digest(), "a") << "drawn with longest ago";
}

}  // namespace
}  // namespace storyfarm::worker
