// Failed tasks that a person asks for once more.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_PAGE;
using ::testing::HasSubstr;

absl::Status Retry(Harness& h, const std::string& job, std::optional<farm::v1::TaskId> task = {}) {
  return h.Step(RetryJob{5000, job, std::move(task)}).replies.at(0).status;
}

// A job of `frames` panels whose first panel's own fault makes it fail; ended.
void EndWithAFailedPanel(Harness& h, uint32_t frames) {
  h.Connect("a");
  h.Submit(Story("j-1", frames));
  h.Fault("a", farm::v1::BAD_INPUT, "no such thing");
  h.RunAll();
  ASSERT_EQ(h.Status("j-1").state(), farm::v1::JOB_FAILED);
  ASSERT_GT(h.Status("j-1").frames_failed(), 0u);
}

TEST(Retry, AJobThatEndedWithAFailedPanelGoesOnAndComposesItsPagesAnew) {
  Harness h;
  EndWithAFailedPanel(h, 3);
  const uint32_t failed = h.Status("j-1").frames_failed();
  const uint32_t done = h.Status("j-1").frames_done();
  ASSERT_TRUE(Retry(h, "j-1").ok());
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_RUNNING);
  EXPECT_EQ(h.Status("j-1").finished_unix_ms(), 0u);
  EXPECT_EQ(h.Status("j-1").frames_failed(), 0u);
  EXPECT_EQ(h.Status("j-1").frames_done(), done) << "what is drawn stays";
  EXPECT_EQ(h.Status("j-1").pages_done(), 0u) << "a page with a stand-in, and the book";
  h.CheckReplay();
  EXPECT_EQ(h.HeldTasks("a"), failed);
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  EXPECT_EQ(h.Status("j-1").frames_done(), 3u);
  EXPECT_EQ(h.Status("j-1").pages_done(), 2u);
  h.CheckReplay();
}

TEST(Retry, OneTaskOfSeveralIsRetriedAlone) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 40));
  h.Fault("a", farm::v1::BAD_INPUT);
  const uint32_t failed = h.Status("j-1").frames_failed();
  ASSERT_GT(failed, 1u);
  ASSERT_TRUE(Retry(h, "j-1", Task("j-1", TASK_FRAME, 0)).ok());
  EXPECT_EQ(h.Status("j-1").frames_failed(), failed - 1);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 1).state(), farm::v1::TASK_FAILED);
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").frames_failed(), failed - 1);
  h.CheckReplay();
}

TEST(Retry, AnIdentityTakesThePanelsAlongThatFailedWithIt) {
  for (const auto& asked : {Task("j-1", TASK_IDENTITY, 0), Task("j-1", TASK_FRAME, 0), Task("j-1", TASK_FRAME, 3)}) {
    Harness h;
    h.Connect("a");
    h.Submit(Story("j-1", 4, 2));
    h.Fault("a", farm::v1::BAD_INPUT, "the identity is at fault");
    h.RunAll();
    ASSERT_EQ(h.Status("j-1").frames_failed(), 4u);
    ASSERT_TRUE(Retry(h, "j-1", asked).ok());
    EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_BLOCKED) << "it comes with the identity";
    EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 3).state(), farm::v1::TASK_BLOCKED);
    h.CheckReplay();
    h.RunAll();
    EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
    h.CheckReplay();
  }
}

TEST(Retry, TriesAreCountedFromTheBeginning) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  for (uint32_t i = 0; i < Limits().own_tries; ++i) {
    for (int wait = 0; wait < 600 && h.HeldTasks("a") == 0; ++wait) {
      h.Advance(1000);
      h.Heartbeat("a");
    }
    h.Fault("a", farm::v1::INVALID_OUTPUT);
  }
  ASSERT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_FAILED);
  ASSERT_TRUE(Retry(h, "j-1").ok());
  for (int wait = 0; wait < 600 && h.TaskOf("j-1", TASK_FRAME, 0).state() != farm::v1::TASK_GRANTED; ++wait) {
    h.Advance(1000);
    h.Heartbeat("a");
    while (h.HeldTasks("a") > 0 && h.First("a").second.kind() == TASK_PAGE) h.FinishOne("a");
  }
  h.Fault("a", farm::v1::INVALID_OUTPUT);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_READY) << "its first try of three";
}

TEST(Retry, APageThatIsBeingComposedWithAStandInIsTakenBackAndItsLateResultIsStale) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 2));
  h.Fault("a", farm::v1::BAD_INPUT);
  while (h.HeldTasks("a") == 0 || h.First("a").second.kind() != TASK_PAGE) {
    if (h.HeldTasks("a") > 0) h.FinishOne("a");
    h.Advance(1000);
    h.Heartbeat("a");
  }
  const auto [token, page] = h.First("a");
  ASSERT_TRUE(Retry(h, "j-1").ok());
  ASSERT_FALSE(h.revokes["a"].empty());
  EXPECT_EQ(FromMessage(h.revokes["a"].back().token()), FromMessage(token));
  h.CheckReplay();
  h.verdicts["a"].clear();
  h.Say("a", ResultFor(h.specs["j-1"], token, page, "a"));
  ASSERT_EQ(h.verdicts["a"].size(), 1u);
  EXPECT_EQ(h.verdicts["a"][0].verdict(), farm::v1::STALE);
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Retry, TheSecondEndIsToldOutsideLikeTheFirst) {
  Limits limits;
  limits.notices = true;
  Harness h(limits);
  EndWithAFailedPanel(h, 2);
  ASSERT_EQ(h.notices["j-1"].size(), 1u);
  const uint64_t first_end = h.notices["j-1"][0].finished_unix_ms();
  h.Advance(1000);
  ASSERT_TRUE(Retry(h, "j-1").ok());
  h.RunAll();
  ASSERT_EQ(h.notices["j-1"].size(), 2u);
  EXPECT_EQ(h.notices["j-1"][1].state(), farm::v1::JOB_DONE);
  h.Step(NoticeAnswered{"j-1", first_end, true, 1, ""});
  h.Restart(limits);
  EXPECT_EQ(h.notices["j-1"].size(), 3u) << "that the first end was told settles nothing of the second";
  h.CheckReplay();
}

TEST(Retry, IsRefusedWithAReasonWhereNothingFailedOrNothingIsLeft) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 2));
  EXPECT_THAT(Retry(h, "j-1").message(), HasSubstr("no task of job j-1 has failed"));
  EXPECT_THAT(Retry(h, "j-1", Task("j-1", TASK_FRAME, 1)).message(), HasSubstr("j-1/frame/1 has not failed"));
  EXPECT_EQ(Retry(h, "j-1", Task("j-1", TASK_FRAME, 9)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Retry(h, "j-2").code(), absl::StatusCode::kNotFound);
  h.Cancel("j-1");
  EXPECT_THAT(Retry(h, "j-1").message(), HasSubstr("was cancelled"));
  Limits limits;
  limits.finished_jobs_hot = 0;
  Harness archived(limits);
  EndWithAFailedPanel(archived, 1);
  EXPECT_EQ(Retry(archived, "j-1").code(), absl::StatusCode::kAborted) << "its archive is being written";
  archived.Step(ArchiveStored{"j-1"});
  EXPECT_THAT(Retry(archived, "j-1").message(), HasSubstr("left for the archive"));
  archived.CheckReplay();
}

}  // namespace
}  // namespace storyfarm::coordinator
