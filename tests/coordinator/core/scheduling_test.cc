// Who gets what: speed, tail, batches, queues, fairness, caches.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;

// Runs nodes that take 100 / tflops seconds a frame, in virtual time; returns the seconds until the job's end.
double Simulate(Harness& h, const std::map<std::string, double>& tflops, const std::string& job,
                std::map<std::string, int>* frames = nullptr) {
  std::map<std::string, double> left;  // seconds of the task under way
  const int64_t from = h.now_ms;
  for (int tick = 0; tick < 200000; ++tick) {
    h.Advance(250);
    for (const auto& [node, speed] : tflops) {
      if (h.now_ms % 2000 == 0) h.Heartbeat(node);
      if (h.holds[node].empty()) {
        left.erase(node);
        continue;
      }
      const bool frame = h.holds[node].front().left.front().kind() == TASK_FRAME;
      const auto [at, fresh] = left.emplace(node, frame ? 100 / speed : 1.0);
      at->second -= 0.25;
      if (at->second > 1e-9) continue;
      if (frame && frames != nullptr) ++(*frames)[node];
      const auto [token, task] = h.First(node);
      h.Drop(node, token, task);
      farm::v1::WorkerMessage result = ResultFor(h.specs[task.job_id()], token, task, node);
      if (frame) result.mutable_result()->mutable_frame()->set_render_ms(static_cast<uint64_t>(100000 / speed));
      h.Say(node, result);
      left.erase(node);
    }
    if (h.Status(job).finished_unix_ms() > 0) return static_cast<double>(h.now_ms - from) / 1000;
  }
  ADD_FAILURE() << "never ends";
  return 0;
}

TEST(Scheduling, ADeviceHoldsAtMostTwoGroups) {
  Harness h;
  h.planner.most_batch = 2;
  h.Connect("a", 100);
  h.Submit(Story("j-1", 500));
  EXPECT_LE(h.holds["a"].size(), 2u);
  for (int i = 0; i < 50; ++i) {
    h.FinishOne("a");
    EXPECT_LE(h.holds["a"].size(), 2u);
    EXPECT_GE(h.holds["a"].size(), 1u);
  }
}

TEST(Scheduling, GroupsAreMultiplesOfTheBatchWhileThereIsMuchLeft) {
  Harness h;
  h.planner.most_batch = 4;
  h.Connect("a", 1000);
  h.Submit(Story("j-1", 300));
  EXPECT_EQ(h.holds["a"].front().left.size() % 4, 0u);
  EXPECT_LE(h.holds["a"].front().left.size(), 64u);
}

TEST(Scheduling, AReproducibleJobRunsAtBatchOne) {
  Harness h;
  h.planner.most_batch = 4;
  h.Connect("a");
  farm::v1::JobSpec spec = Story("j-1", 8);
  spec.mutable_story()->mutable_settings()->set_reproducible(true);
  h.Submit(spec);
  EXPECT_EQ(h.holds["a"].front().grant.work().frames().plan().batch(), 1u);
}

TEST(Scheduling, FewFramesSpreadOverAllDevices) {
  Harness h;
  h.planner.most_batch = 4;
  for (const char* node : {"a", "b", "c", "d"}) h.Connect(node);
  h.Submit(Story("j-1", 4));
  for (const char* node : {"a", "b", "c", "d"}) EXPECT_EQ(h.HeldTasks(node), 1u) << node;
}

TEST(Scheduling, ASlowDeviceDoesNotTakeTheLastFrames) {
  Harness h;
  h.Connect("slow", 1);    // 100 s a frame
  h.Connect("fast", 100);  // 1 s a frame
  h.Submit(Story("j-1", 3));
  EXPECT_EQ(h.HeldTasks("slow"), 0u);
  EXPECT_GT(h.HeldTasks("fast"), 0u);
}

TEST(Scheduling, ASlowDeviceHelpsWhereThereIsEnoughToDo) {
  Harness h;
  h.Connect("slow", 1);
  h.Connect("fast", 10);
  h.Submit(Story("j-1", 40));
  EXPECT_GT(h.HeldTasks("slow"), 0u);
}

TEST(Scheduling, AMixedFleetComesNearTheLowerBound) {
  Harness h;
  const std::map<std::string, double> fleet = {{"h100", 100}, {"m2", 10}, {"m1", 5}, {"cpu", 1}};
  for (const auto& [node, tflops] : fleet) h.Connect(node, tflops);
  h.Submit(Story("j-1", 400));
  std::map<std::string, int> frames;
  const double seconds = Simulate(h, fleet, "j-1", &frames);
  const double bound = 400 * 100.0 / (100 + 10 + 5 + 1);
  EXPECT_LT(seconds, bound * 1.1 + 3) << "the bound is " << bound;
  EXPECT_GT(frames["cpu"], 0);
  h.CheckReplay();
}

TEST(Scheduling, MeasuredSpeedReplacesWhatTheDeviceClaimed) {
  Harness h;
  h.Connect("liar", 1000);  // claims 0.1 s, takes 10 s
  h.Connect("honest", 100);
  h.Submit(Story("j-1", 200));
  const auto [token, task] = h.First("liar");
  h.Drop("liar", token, task);
  farm::v1::WorkerMessage result = ResultFor(h.specs["j-1"], token, task);
  result.mutable_result()->mutable_frame()->set_render_ms(10000);
  h.Say("liar", result);
  while (!h.holds["liar"].empty()) {
    const auto [next_token, next] = h.First("liar");
    h.Drop("liar", next_token, next);
    result = ResultFor(h.specs["j-1"], next_token, next);
    result.mutable_result()->mutable_frame()->set_render_ms(10000);
    h.Say("liar", result);
    if (h.HeldTasks("liar") <= 8) break;
  }
  h.Cancel("j-1");
  h.Submit(Story("j-2", 3));
  EXPECT_EQ(h.HeldTasks("liar"), 0u);
  EXPECT_GT(h.HeldTasks("honest"), 0u);
}

TEST(Scheduling, ASmallJobDoesNotWaitForALargeOne) {
  Harness h;
  const std::map<std::string, double> fleet = {{"a", 100}};
  h.Connect("a", 100);
  h.Submit(Story("j-large", 600));
  h.Advance(1000);
  h.Submit(Story("j-small", 5));
  const double seconds = Simulate(h, fleet, "j-small");
  EXPECT_LT(seconds, 200);
  EXPECT_EQ(h.Status("j-large").finished_unix_ms(), 0u);
  Simulate(h, fleet, "j-large");
}

TEST(Scheduling, ManySmallJobsUseAllDevices) {
  Harness h;
  h.Connect("fast", 100);
  h.Connect("slow", 20);
  for (int i = 0; i < 30; ++i) h.Submit(Story(absl::StrCat("j-", i), 1));
  EXPECT_GT(h.HeldTasks("fast"), 0u);
  EXPECT_GT(h.HeldTasks("slow"), 0u);
}

TEST(Scheduling, ANodeThatHasTheModelIsPreferred) {
  Harness h;
  farm::v1::JobSpec spec = Story("j-1", 1);
  farm::v1::ModelFile& file = *spec.mutable_model()->add_files();
  file.mutable_blob()->set_digest(DigestOf("weights"));
  file.mutable_blob()->set_size_bytes(7'000'000'000);
  h.Connect("a-cold");
  farm::v1::Hello hello = h.HelloOf("b-warm", 50);
  hello.add_cached_digests(DigestOf("weights"));
  h.ConnectWith(hello);
  h.Submit(spec);
  EXPECT_EQ(h.HeldTasks("b-warm"), 1u);
}

TEST(Scheduling, TheWaitingGroupComesWhenTheRunningOneEndsSoon) {
  Harness h;
  h.Connect("a", 1);  // 100 s a frame
  h.Submit(Story("j-1", 10));
  EXPECT_EQ(h.holds["a"].size(), 1u);
  for (int i = 0; i < 46; ++i) {
    h.Advance(2000);
    h.Heartbeat("a");
  }
  EXPECT_EQ(h.holds["a"].size(), 2u);
}

TEST(Scheduling, AGroupNoDeviceTakesIsShownWithTheReasonAndWhatWouldBeEnough) {
  Harness h;
  farm::v1::JobSpec spec = Story("j-1", 2);
  spec.mutable_story()->mutable_settings()->set_width(20);
  h.Connect("a", 100, 8000);
  h.Connect("b", 100, 16000);
  h.Submit(spec);
  const auto status = h.Status("j-1");
  ASSERT_EQ(status.waiting_size(), 1);
  EXPECT_THAT(status.waiting(0).reason(), ::testing::HasSubstr("b: needs 20000 bytes"));
  EXPECT_EQ(status.waiting(0).needed_bytes(), 20000u);
  EXPECT_EQ(status.waiting(0).offered_bytes(), 16000u);
  EXPECT_EQ(status.state(), farm::v1::JOB_QUEUED);
}

TEST(Scheduling, ADeviceThatJoinsLateGetsWhatOthersHaveNotBegun) {
  Harness h;
  h.Connect("a", 100);
  h.Submit(Story("j-1", 8));
  while (h.HeldTasks("a") < 6) {
    h.Advance(1000);
    h.Heartbeat("a");
    ASSERT_LT(h.now_ms, 60000);
  }
  h.FinishOne("a");
  h.FinishOne("a");
  const size_t held = h.HeldTasks("a");
  h.Connect("b", 100);
  while (h.HeldTasks("b") > 0) h.FinishOne("b");
  ASSERT_FALSE(h.trims["a"].empty());
  EXPECT_LT(static_cast<size_t>(h.trims["a"].front().tasks_size()), held);  // it keeps its share
  h.AnswerTrims("a");
  EXPECT_GT(h.HeldTasks("b"), 0u);
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Scheduling, ASlowIdleDeviceDoesNotStealWhatAFastOneFinishesSooner) {
  Harness h;
  h.Connect("fast", 100);
  h.Submit(Story("j-1", 4));
  h.Connect("slow", 1);
  for (int i = 0; i < 4; ++i) {
    h.Advance(1000);
    h.Heartbeat("fast");
    h.Heartbeat("slow");
  }
  EXPECT_TRUE(h.trims["fast"].empty());
}

TEST(Scheduling, ALeavingNodeGetsNothingMore) {
  Harness h;
  h.Connect("a");
  farm::v1::WorkerMessage leaving;
  leaving.mutable_leaving();
  h.Say("a", leaving);
  h.Submit(Story("j-1", 3));
  EXPECT_EQ(h.HeldTasks("a"), 0u);
  EXPECT_TRUE(h.farm().ListNodes({h.now_ms, 0})[0].leaving());
}

}  // namespace
}  // namespace storyfarm::coordinator
