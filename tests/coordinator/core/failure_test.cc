// Faults: whose they are, what they cost, how they end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using ::testing::HasSubstr;

// Time for a device that failed to be trusted again.
void Rest(Harness& h) {
  for (int i = 0; i < 600; ++i) {
    h.Advance(2000);
    for (auto& [node, session] : h.session_of) h.Heartbeat(node);
    for (auto& [node, held] : h.holds) {
      if (!held.empty()) return;
    }
  }
}

TEST(Failures, AFrameFailsAfterThreeFaultsOfItsOwnAndTheJobEndsWithAStandIn) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  for (int i = 0; i < 3; ++i) {
    if (h.holds["a"].empty()) Rest(h);
    h.Fault("a", farm::v1::INVALID_OUTPUT, "latents are not finite");
  }
  const auto task = h.TaskOf("j-1", TASK_FRAME, 0);
  EXPECT_EQ(task.state(), farm::v1::TASK_FAILED);
  EXPECT_THAT(task.message(), HasSubstr("failed 3 times"));
  EXPECT_THAT(task.message(), HasSubstr("latents are not finite"));
  Rest(h);
  ASSERT_FALSE(h.holds["a"].empty());
  EXPECT_THAT(h.holds["a"].front().grant.work().page().pages(0).panels(0).failure(), HasSubstr("failed 3 times"));
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_FAILED);
  EXPECT_EQ(h.Status("j-1").pages_done(), 2u);
  h.CheckReplay();
}

TEST(Failures, BadInputFailsAtOnce) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  h.Fault("a", farm::v1::BAD_INPUT, "the prompt is not UTF-8");
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_FAILED);
  EXPECT_FALSE(h.holds["a"].empty());  // the device is not to blame
}

TEST(Failures, FaultsOfMachinesDoNotUseUpTheFramesTries) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  for (int i = 0; i < 8; ++i) {
    if (h.holds["a"].empty()) Rest(h);
    h.Fault("a", i % 2 == 0 ? farm::v1::PREEMPTED : farm::v1::DISK_FULL);
  }
  Rest(h);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_GRANTED);
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
}

TEST(Failures, ADeviceThatFailsAgainAndAgainWaitsLongerAndSaysWhy) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 50));
  h.Fault("a", farm::v1::DISK_FULL, "the disk is full");
  EXPECT_TRUE(h.holds["a"].empty());
  h.Advance(1300);
  EXPECT_FALSE(h.holds["a"].empty());
  int64_t waited_before = 0;
  for (int i = 0; i < 4; ++i) {
    h.Fault("a", farm::v1::DISK_FULL, "the disk is full");
    while (!h.holds["a"].empty()) h.Fault("a", farm::v1::DISK_FULL, "the disk is full");
    const int64_t from = h.now_ms;
    Rest(h);
    EXPECT_GT(h.now_ms - from, waited_before);
    waited_before = h.now_ms - from;
    if (waited_before > 300000) break;
  }
  h.Fault("a", farm::v1::DISK_FULL, "the disk is full");
  const auto nodes = h.farm().ListNodes({h.now_ms, 0});
  EXPECT_THAT(nodes[0].note(), HasSubstr("set aside"));
  EXPECT_THAT(nodes[0].note(), HasSubstr("the disk is full"));
  ASSERT_EQ(h.Status("j-1").waiting_size(), 1);
  EXPECT_THAT(h.Status("j-1").waiting(0).reason(), HasSubstr("set aside"));
}

TEST(Failures, AGroupThatAbortsAnEngineIsTriedFrameByFrame) {
  Harness h;
  h.planner.most_batch = 4;
  h.Connect("a");
  h.Submit(Story("j-1", 5));
  ASSERT_EQ(h.holds["a"].front().left.size(), 4u);
  h.Fault("a", farm::v1::ENGINE_ABORTED, "signal 6");
  while (!h.holds["a"].empty()) h.FinishOne("a");
  Rest(h);
  ASSERT_FALSE(h.holds["a"].empty());
  EXPECT_EQ(h.holds["a"].front().left.size(), 1u);
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Failures, AFrameThatAbortsEnginesWhereOthersSucceedIsPoison) {
  Harness h;
  h.Connect("a");
  h.Connect("b");
  h.Submit(Story("j-1", 12));
  std::set<std::string> aborted;
  for (int i = 0; i < 600 && h.Status("j-1").finished_unix_ms() == 0; ++i) {
    bool any = false;
    for (const std::string node : {"a", "b"}) {
      if (h.holds[node].empty()) continue;
      any = true;
      bool poison = false;
      for (const auto& task : h.holds[node].front().left) {
        poison |= task.kind() == TASK_FRAME && task.number() == 7;
      }
      if (poison) {
        if (h.holds[node].front().left.size() == 1) aborted.insert(node);
        h.Fault(node, farm::v1::ENGINE_ABORTED, "signal 6");
      } else {
        h.FinishOne(node);
      }
    }
    if (!any) h.Advance(1000);
    for (const std::string node : {"a", "b"}) h.Heartbeat(node);
  }
  const auto task = h.TaskOf("j-1", TASK_FRAME, 7);
  EXPECT_EQ(task.state(), farm::v1::TASK_FAILED);
  EXPECT_THAT(task.message(), HasSubstr("poison"));
  EXPECT_THAT(task.message(), HasSubstr("on 2 nodes"));
  EXPECT_EQ(aborted.size(), 2u);  // it was sent to a node that it had not aborted yet
  EXPECT_EQ(h.Status("j-1").frames_done(), 11u);
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_FAILED);
  h.CheckReplay();
}

TEST(Failures, OutOfMemoryIsLearnedAndPlannedAgainSmaller) {
  Harness h;
  h.planner.most_batch = 4;
  h.Connect("a", 100, 4000);
  h.Submit(Story("j-1", 8));
  EXPECT_EQ(h.holds["a"].front().grant.work().frames().plan().batch(), 4u);
  h.Fault("a", farm::v1::OUT_OF_MEMORY, "out of memory", 8000);
  while (!h.holds["a"].empty()) h.FinishOne("a");
  Rest(h);
  ASSERT_FALSE(h.holds["a"].empty());
  EXPECT_EQ(h.holds["a"].front().grant.work().frames().plan().batch(), 2u);
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Failures, OutOfMemoryMovesTheFrameToALargerDeviceOrIsRefusedWithNumbers) {
  Harness h;
  h.Connect("small", 100, 1500);
  h.Submit(Story("j-1", 1));
  h.Fault("small", farm::v1::OUT_OF_MEMORY, "out of memory", 3000);
  for (int i = 0; i < 5; ++i) {
    h.Advance(1000);
    h.Heartbeat("small");
  }
  EXPECT_EQ(h.HeldTasks("small"), 0u);
  ASSERT_EQ(h.Status("j-1").waiting_size(), 1);
  EXPECT_EQ(h.Status("j-1").waiting(0).needed_bytes(), 3000u);
  EXPECT_EQ(h.Status("j-1").waiting(0).offered_bytes(), 1500u);
  h.Connect("large", 1, 8000);
  EXPECT_EQ(h.HeldTasks("large"), 1u);
  EXPECT_EQ(h.Status("j-1").waiting_size(), 0);
}

TEST(Failures, GroupsPlannedBeforeANeedWasLearnedTeachItOnce) {
  Harness h;
  for (const char* node : {"a", "b", "c"}) h.Connect(node);
  h.Submit(Story("j-1", 12));
  // All three were planned at 1,000 bytes a frame, and all three needed 1,300.
  for (const char* node : {"a", "b", "c"}) h.Fault(node, farm::v1::OUT_OF_MEMORY, "out of memory", 1300);
  int learned = 0;
  for (const auto& record : h.records) {
    if (!record.has_need_learned()) continue;
    ++learned;
    EXPECT_EQ(record.need_learned().needed_bytes() * 1000, record.need_learned().planned_bytes() * 1300);
  }
  EXPECT_EQ(learned, 1);
}

TEST(Failures, MemoryTakenByOthersIsNotLearnedAsANeed) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  h.Fault("a", farm::v1::OUT_OF_MEMORY, "another program holds 7 GB", 500);
  for (const auto& record : h.records) EXPECT_FALSE(record.has_need_learned());
}

TEST(Failures, AFailedIdentityFailsItsFramesWithASentenceAndThePagesStillCome) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 5, 2));
  h.Fault("a", farm::v1::BAD_INPUT, "the description is empty");
  EXPECT_EQ(h.TaskOf("j-1", TASK_IDENTITY, 0).state(), farm::v1::TASK_FAILED);
  for (uint32_t i = 0; i < 5; ++i) {
    EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, i).state(), farm::v1::TASK_FAILED);
    EXPECT_THAT(h.TaskOf("j-1", TASK_FRAME, i).message(), HasSubstr("needs the identity of Ada, which failed"));
  }
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_FAILED);
  EXPECT_EQ(h.Status("j-1").pages_done(), 2u);
  h.CheckReplay();
}

TEST(Failures, AResultThatIsNotWhatWasAskedForCountsAgainstTheTask) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 4, 2));
  const auto [token, task] = h.First("a");
  farm::v1::WorkerMessage message = ResultFor(h.specs["j-1"], token, task);
  message.mutable_result()->mutable_identity()->mutable_frames()->RemoveLast();
  h.Say("a", message);
  EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::STALE);
  EXPECT_THAT(h.TaskOf("j-1", TASK_IDENTITY, 0).message(), HasSubstr("lacks panel 1"));
  EXPECT_EQ(h.Status("j-1").frames_done(), 0u);
}

TEST(Failures, WithNoWorkerTheJobSaysSo) {
  Harness h;
  h.Submit(Story("j-1", 1));
  ASSERT_EQ(h.Status("j-1").waiting_size(), 1);
  EXPECT_THAT(h.Status("j-1").waiting(0).reason(), HasSubstr("no worker is connected"));
}

}  // namespace
}  // namespace storyfarm::coordinator
