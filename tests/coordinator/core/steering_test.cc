// What a person steers, and what the farm says of its reasons: priorities, pause, drain, explain.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_join.h"
#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_PAGE;
using ::testing::HasSubstr;

absl::Status Change(Harness& h, const std::string& job, std::optional<bool> paused, std::optional<uint32_t> priority) {
  return h.Step(ChangeJob{1000, job, paused, priority}).replies.at(0).status;
}
absl::Status Drain(Harness& h, const std::string& node, bool drained, bool at_once = false) {
  return h.Step(DrainNode{1000, node, drained, at_once}).replies.at(0).status;
}
std::string Why(Harness& h, const std::string& job, farm::v1::TaskKind kind, uint32_t number) {
  const auto explanation = h.farm().Explain({h.now_ms, 0}, Task(job, kind, number));
  if (!explanation.ok()) return std::string(explanation.status().message());
  return absl::StrJoin(explanation->sentences(), " ");
}
size_t HeldOf(Harness& h, const std::string& node, const std::string& job) {
  size_t tasks = 0;
  for (const Held& held : h.holds[node]) {
    for (const auto& task : held.left) tasks += task.job_id() == job ? 1 : 0;
  }
  return tasks;
}

TEST(Steering, AJobOfHigherPriorityGoesFirst) {
  Harness h;
  h.Submit(Story("j-usual", 50));
  farm::v1::JobSpec urgent = Story("j-urgent", 4);
  urgent.set_priority(90);
  h.Submit(urgent);
  h.Connect("a", 100);
  EXPECT_GT(HeldOf(h, "a", "j-urgent"), 0u);
  EXPECT_EQ(h.Status("j-urgent").priority(), 90u);
  EXPECT_EQ(h.Status("j-usual").priority(), 50u);
  h.RunAll();
  h.CheckReplay();
}

TEST(Steering, APriorityCanBeChangedAndOneThatIsNoneIsRefused) {
  Harness h;
  h.Submit(Story("j-1", 30));
  h.Submit(Story("j-2", 30));
  EXPECT_TRUE(Change(h, "j-2", {}, 60).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Change(h, "j-2", {}, 101)));
  EXPECT_TRUE(absl::IsInvalidArgument(Change(h, "j-2", {}, 0)));
  EXPECT_TRUE(absl::IsNotFound(Change(h, "j-3", {}, 1)));
  EXPECT_EQ(h.Status("j-2").priority(), 60u);
  h.Connect("a", 100);
  EXPECT_GT(HeldOf(h, "a", "j-2"), 0u);
  EXPECT_EQ(HeldOf(h, "a", "j-1"), 0u);
  h.CheckReplay();
}

TEST(Steering, EqualJobsShareASingleDeviceInTurn) {
  Harness h;
  h.Connect("a", 100);
  h.Submit(Story("j-1", 60));
  h.Submit(Story("j-2", 60));
  std::set<std::string> served;
  for (int i = 0; i < 40; ++i) {
    served.insert(h.First("a").second.job_id());
    h.FinishOne("a");
  }
  EXPECT_EQ(served.size(), 2u);
}

TEST(Steering, APausedJobGetsNothingMoreAndItsWaitingFramesComeBack) {
  Harness h;
  h.Connect("a", 100);
  h.Submit(Story("j-1", 20));
  ASSERT_GT(h.HeldTasks("a"), 1u);
  EXPECT_TRUE(Change(h, "j-1", true, {}).ok());
  EXPECT_TRUE(h.Status("j-1").paused());
  h.AnswerTrims("a");
  EXPECT_EQ(h.HeldTasks("a"), 0u);
  h.Advance(3000);
  EXPECT_EQ(h.HeldTasks("a"), 0u);
  EXPECT_THAT(Why(h, "j-1", TASK_FRAME, 0), HasSubstr("storyctl resume j-1"));
  h.Restart();  // a pause outlives the coordinator
  h.Connect("a", 100);
  EXPECT_EQ(h.HeldTasks("a"), 0u);
  EXPECT_TRUE(Change(h, "j-1", false, {}).ok());
  EXPECT_GT(h.HeldTasks("a"), 0u);
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  EXPECT_TRUE(absl::IsFailedPrecondition(Change(h, "j-1", true, {})));
  h.CheckReplay();
}

TEST(Steering, ADrainedNodeKeepsWhatItBeganAndGetsNothingUntilItIsGivenBack) {
  Harness h;
  h.Connect("a", 100);
  h.Connect("b", 100);
  h.Submit(Story("j-1", 40));
  farm::v1::WorkerMessage message;
  const auto [token, task] = h.First("a");
  *message.mutable_progress()->mutable_token() = token;
  *message.mutable_progress()->mutable_task() = task;
  message.mutable_progress()->set_step(1);
  message.mutable_progress()->set_steps(10);
  h.Say("a", message);
  EXPECT_TRUE(Drain(h, "a", true).ok());
  h.AnswerTrims("a");
  EXPECT_EQ(h.HeldTasks("a"), 1u);
  h.FinishOne("a");
  h.Advance(1000);
  EXPECT_EQ(h.HeldTasks("a"), 0u);
  EXPECT_THAT(h.farm().ListNodes({h.now_ms, 0})[0].note(), HasSubstr("storyctl undrain a"));
  EXPECT_TRUE(h.farm().ListNodes({h.now_ms, 0})[0].drained());
  h.Restart();
  h.Connect("a", 100);
  EXPECT_EQ(h.HeldTasks("a"), 0u);
  EXPECT_TRUE(Drain(h, "a", false).ok());
  EXPECT_GT(h.HeldTasks("a"), 0u);
  EXPECT_TRUE(absl::IsNotFound(Drain(h, "c", true)));
  h.CheckReplay();
}

TEST(Steering, AMachineThatIsTakenBackAtOnceLosesItsFramesToOthersAndNoTryIsUsedUp) {
  Harness h;
  h.Connect("a", 100);
  h.Submit(Story("j-1", 3));
  ASSERT_GT(h.HeldTasks("a"), 0u);
  EXPECT_TRUE(Drain(h, "a", true, true).ok());
  EXPECT_FALSE(h.revokes["a"].empty());
  EXPECT_EQ(h.HeldTasks("a"), 0u);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_READY);
  EXPECT_THAT(h.TaskOf("j-1", TASK_FRAME, 0).message(), HasSubstr("taken out of the farm"));
  h.Connect("b", 100);
  EXPECT_GT(h.HeldTasks("b"), 0u);
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Steering, APreemptedDeviceRestsAndIsNotSetAside) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  for (int i = 0; i < 10; ++i) {
    for (int second = 0; second < 60 && h.holds["a"].empty(); ++second) {
      h.Advance(1000);
      h.Heartbeat("a");
    }
    h.Fault("a", farm::v1::PREEMPTED, "the owner is back");
    EXPECT_THAT(h.farm().ListNodes({h.now_ms, 0})[0].note(), HasSubstr("the owner is back"));
  }
  EXPECT_THAT(h.farm().ListNodes({h.now_ms, 0})[0].note(), ::testing::Not(HasSubstr("set aside")));
}

TEST(Steering, AWorkersRestartClearsThatItWasSetAside) {
  Harness h;
  farm::v1::Hello hello = h.HelloOf("a");
  hello.set_process(1);
  h.ConnectWith(hello);
  h.Submit(Story("j-1", 50));
  for (int i = 0; i < 5; ++i) {
    for (int second = 0; second < 60 && h.holds["a"].empty(); ++second) {
      h.Advance(1000);
      h.Heartbeat("a");
    }
    while (!h.holds["a"].empty()) h.Fault("a", farm::v1::DISK_FULL, "the disk is full");
  }
  EXPECT_THAT(h.farm().ListNodes({h.now_ms, 0})[0].note(), HasSubstr("set aside"));
  h.Step(WorkerGone{h.session_of["a"]});
  h.ConnectWith(hello);  // the same process on a new stream
  EXPECT_THAT(h.farm().ListNodes({h.now_ms, 0})[0].note(), HasSubstr("set aside"));
  h.Step(WorkerGone{h.session_of["a"]});
  hello.set_process(2);
  h.ConnectWith(hello);
  EXPECT_EQ(h.farm().ListNodes({h.now_ms, 0})[0].note(), "");
  EXPECT_GT(h.HeldTasks("a"), 0u);
}

TEST(Explain, TellsWhatABlockedTaskWaitsFor) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 6, 2));
  EXPECT_THAT(Why(h, "j-1", TASK_FRAME, 4), HasSubstr("waits for the identity of Ada (j-1/identity/0, on a)"));
  EXPECT_THAT(Why(h, "j-1", TASK_FRAME, 0), HasSubstr("drawn together with the identity of Ada"));
  EXPECT_THAT(Why(h, "j-1", TASK_PAGE, 0), HasSubstr("waits for 6 of its panels"));
}

TEST(Explain, TellsWhatEachDeviceWouldTakeAndWhyOneThatIsFreeIsNotGiven) {
  Harness h;
  h.Connect("fast", 100);  // 1 s
  h.Connect("slow", 1);    // 100 s
  h.Connect("small", 100, 500);
  h.Submit(Story("j-1", 40));
  ASSERT_EQ(h.HeldTasks("slow"), 0u);
  const auto explanation = h.farm().Explain({h.now_ms, 0}, Task("j-1", TASK_FRAME, 39));
  ASSERT_TRUE(explanation.ok());
  ASSERT_EQ(explanation->state(), farm::v1::TASK_READY);
  EXPECT_THAT(Why(h, "j-1", TASK_FRAME, 39), HasSubstr("slow is free, but would have it done only in 100 s"));
  EXPECT_THAT(Why(h, "j-1", TASK_FRAME, 39), HasSubstr("for at most 100 s"));
  ASSERT_EQ(explanation->candidates_size(), 3);
  EXPECT_EQ(explanation->candidates(0).node(), "fast");
  EXPECT_GT(explanation->candidates(0).free_s(), 0);
  EXPECT_DOUBLE_EQ(explanation->candidates(1).finish_s(), 100);
  EXPECT_THAT(explanation->candidates(2).refusal(), HasSubstr("needs 1000 bytes"));
}

TEST(Explain, AJobIsHeldBackNoLongerThanTheDeviceAtHandWouldTake) {
  Harness h;
  h.Connect("fast", 100);
  h.Connect("slow", 10);  // 10 s
  h.Submit(Story("j-1", 8));
  ASSERT_EQ(h.HeldTasks("slow"), 0u);
  // The fast one never gets anywhere, against all predictions.
  for (int i = 0; i < 30 && h.HeldTasks("slow") == 0; ++i) {
    h.Advance(1000);
    h.Heartbeat("fast");
    h.Heartbeat("slow");
  }
  EXPECT_GT(h.HeldTasks("slow"), 0u);
  EXPECT_LE(h.now_ms, 12000);
}

TEST(Explain, TellsOfAGrantedTaskWhatDecided) {
  Harness h;
  h.Connect("a", 100);
  h.Connect("b", 50);
  h.Submit(Story("j-1", 60));
  const auto [token, task] = h.First("a");
  const std::string why = Why(h, "j-1", TASK_FRAME, task.number());
  EXPECT_THAT(why, HasSubstr("a holds it"));
  EXPECT_THAT(why, HasSubstr("the first of them would be done in 1.0 s"));
  EXPECT_THAT(why, HasSubstr("The next best with room, b, would have taken 2.0 s"));
  h.FinishOne("a");
  EXPECT_THAT(Why(h, "j-1", TASK_FRAME, task.number()), HasSubstr("It is done: a did it"));
  h.Restart();
  EXPECT_THAT(Why(h, "j-1", TASK_FRAME, task.number()), HasSubstr("no longer kept"));
}

TEST(Explain, ShowsThePlanThatAGroupWasGrantedWithOrWouldBe) {
  Harness h;
  h.Connect("a", 100);
  h.Connect("b", 50);
  h.Submit(Story("j-1", 60));
  const auto [token, task] = h.First("a");
  const auto explain = [&h](uint32_t frame) { return *h.farm().Explain({h.now_ms, 0}, Task("j-1", TASK_FRAME, frame)); };
  const farm::v1::Explanation granted = explain(task.number());
  EXPECT_EQ(granted.plan_node(), "a");
  EXPECT_EQ(granted.plan().predicted_peak_bytes(), TablePlanner::kFrameBytes);
  const farm::v1::Explanation waits = explain(59);
  ASSERT_EQ(waits.state(), farm::v1::TASK_READY);
  EXPECT_EQ(waits.plan_node(), waits.candidates(0).node());
  EXPECT_DOUBLE_EQ(waits.plan().predicted_seconds(), waits.candidates(0).task_s());
  h.FinishOne("a");
  EXPECT_EQ(explain(task.number()).plan().predicted_seconds(), granted.plan().predicted_seconds());
  EXPECT_FALSE(h.farm().Explain({h.now_ms, 0}, Task("j-1", TASK_PAGE, 0))->has_plan());
  h.Restart();
  EXPECT_FALSE(explain(task.number()).has_plan());
}

TEST(Figures, CountTasksOfLiveJobsByState) {
  Harness h;
  h.Connect("a", 100);
  h.Submit(Story("j-1", 6, 2));
  h.Submit(Story("j-2", 3));
  ASSERT_TRUE(Change(h, "j-2", true, {}).ok());
  const auto frames = [&h](farm::v1::TaskState state) {
    const farm::v1::Figures figures = h.farm().Count();
    for (const auto& count : figures.tasks()) {
      if (count.kind() == TASK_FRAME && count.state() == state) return count.tasks();
    }
    return uint64_t{0};
  };
  EXPECT_EQ(frames(farm::v1::TASK_BLOCKED), 6u) << "they wait for their identity";
  EXPECT_EQ(frames(farm::v1::TASK_READY) + frames(farm::v1::TASK_GRANTED), 3u);
  EXPECT_EQ(h.farm().Count().jobs_paused(), 1u);
  ASSERT_TRUE(Change(h, "j-2", false, {}).ok());
  h.RunAll();
  EXPECT_EQ(h.farm().Count().tasks_size(), 0);
  ASSERT_EQ(h.farm().Count().jobs_size(), 1);
  EXPECT_EQ(h.farm().Count().jobs(0).state(), farm::v1::JOB_DONE);
  EXPECT_EQ(h.farm().Count().jobs(0).jobs(), 2u);
}

TEST(Explain, AskingChangesNothing) {
  Harness asked;
  Harness silent;
  for (Harness* h : {&asked, &silent}) {
    h->Connect("a", 100);
    h->Connect("b", 3);
    h->Submit(Story("j-1", 30, 2));
  }
  for (int i = 0; i < 60; ++i) {
    for (Harness* h : {&asked, &silent}) {
      h->Advance(500);
      for (const char* node : {"a", "b"}) {
        if (i % 4 == 0) h->Heartbeat(node);
        if (!h->holds[node].empty()) h->FinishOne(node);
      }
    }
    for (uint32_t frame = 0; frame < 30; ++frame) Why(asked, "j-1", TASK_FRAME, frame);
  }
  ASSERT_EQ(asked.records.size(), silent.records.size());
  EXPECT_TRUE(asked.farm().SerializeState() == silent.farm().SerializeState());
}

TEST(Explain, UnknownTasksAreNotFound) {
  Harness h;
  h.Submit(Story("j-1", 2));
  EXPECT_THAT(Why(h, "j-1", TASK_FRAME, 2), HasSubstr("has no task j-1/frame/2"));
  EXPECT_THAT(Why(h, "j-2", TASK_FRAME, 2), HasSubstr("there is no job j-2"));
}

TEST(HeldDispatch, GrantsNothingAndSaysWhyUntilItGoesOn) {
  Harness h;
  h.Connect("a", 1000);
  h.Submit(Story("j-1", 40));
  const size_t held = h.HeldTasks("a");
  ASSERT_LT(held, 40u);
  h.Step(HoldDispatch{"the disk is nearly full"});
  EXPECT_THAT(h.last.changed_jobs, ::testing::ElementsAre("j-1"));
  h.Connect("b");
  while (h.HeldTasks("a") > 0) h.FinishOne("a");  // what was granted goes on, and its results are taken
  h.Heartbeat("b");
  h.Advance(5000);
  EXPECT_EQ(h.HeldTasks("a") + h.HeldTasks("b"), 0u);
  EXPECT_EQ(h.Status("j-1").frames_done(), held);
  ASSERT_EQ(h.Status("j-1").waiting_size(), 1);
  EXPECT_EQ(h.Status("j-1").waiting(0).reason(), "the disk is nearly full");
  const auto why = h.farm().Explain({h.now_ms, 0}, Task("j-1", farm::v1::TASK_FRAME, 39));
  ASSERT_TRUE(why.ok());
  EXPECT_EQ(why->sentences(0), "Nothing is handed out just now: the disk is nearly full.");
  h.Submit(Story("j-2", 1));
  EXPECT_TRUE(h.Cancel("j-2").status.ok());
  h.Step(HoldDispatch{});
  EXPECT_GT(h.HeldTasks("a") + h.HeldTasks("b"), 0u);
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

}  // namespace
}  // namespace storyfarm::coordinator
