// Ends of jobs that somebody outside is told of, over restarts.
#include <gtest/gtest.h>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

Limits Telling() {
  Limits limits;
  limits.notices = true;
  return limits;
}

TEST(Notices, EachEndIsOfferedOnceAndSaysHowItEnded) {
  Harness h(Telling());
  h.Connect("a");
  h.Submit(Story("j-1", 3));
  h.Submit(Story("j-2", 5));
  EXPECT_TRUE(h.notices.empty());
  h.Cancel("j-2");
  h.RunAll();
  ASSERT_EQ(h.notices["j-1"].size(), 1u);
  const farm::v1::JobNotice& done = h.notices["j-1"][0];
  EXPECT_EQ(done.state(), farm::v1::JOB_DONE);
  EXPECT_EQ(done.frames_total(), 3u);
  EXPECT_EQ(done.frames_done(), 3u);
  EXPECT_EQ(done.pages_done(), 2u);
  EXPECT_EQ(done.finished_unix_ms(), h.Status("j-1").finished_unix_ms());
  ASSERT_EQ(h.notices["j-2"].size(), 1u);
  EXPECT_EQ(h.notices["j-2"][0].state(), farm::v1::JOB_CANCELLED);
  h.CheckReplay();
}

TEST(Notices, AnEndIsOfferedAgainAfterARestartUntilItIsSettled) {
  Harness h(Telling());
  h.Submit(Story("j-1", 3));
  h.Cancel("j-1");
  h.Advance(60'000);
  ASSERT_EQ(h.notices["j-1"].size(), 1u);
  h.Restart();
  EXPECT_EQ(h.notices["j-1"].size(), 2u);
  const uint64_t finished = h.notices["j-1"].back().finished_unix_ms();
  h.Step(NoticeAnswered{"j-1", finished, true, 1, ""});
  h.Step(NoticeAnswered{"j-1", finished, true, 1, ""});  // of the life before
  h.Restart();
  h.Advance(1000);
  EXPECT_EQ(h.notices["j-1"].size(), 2u);
  h.CheckReplay();
}

TEST(Notices, TheRecordOfTheEndItselfCarriesTheIntentSoThatNoCrashFallsBetween) {
  Harness h(Telling());
  h.Submit(Story("j-1", 3));
  h.Cancel("j-1");
  while (!h.records.back().has_job_cancelled()) h.records.pop_back();
  h.Restart();
  EXPECT_EQ(h.notices["j-1"].size(), 2u);
}

TEST(Notices, WhereNobodyIsToBeToldNothingIsKeptAndWhatWasDueIsGivenUpWithARecord) {
  Harness silent;
  silent.Submit(Story("j-1", 3));
  silent.Cancel("j-1");
  EXPECT_TRUE(silent.notices.empty());

  Harness h(Telling());
  h.Submit(Story("j-1", 3));
  h.Cancel("j-1");
  h.Restart(Limits());
  ASSERT_TRUE(h.records.back().has_notice_settled());
  EXPECT_FALSE(h.records.back().notice_settled().delivered());
  h.Restart(Telling());
  EXPECT_EQ(h.notices["j-1"].size(), 1u);
}

TEST(Notices, BeyondTheLimitTheOldestIsGivenUpWithARecord) {
  Limits limits = Telling();
  limits.notices_due = 2;
  Harness h(limits);
  for (const char* id : {"j-3", "j-2", "j-1"}) {
    h.Submit(Story(id, 1));
    h.Advance(1000);
    h.Cancel(id);
  }
  h.Restart(limits);
  EXPECT_EQ(h.notices["j-3"].size(), 1u);
  EXPECT_EQ(h.notices["j-2"].size(), 2u);
  EXPECT_EQ(h.notices["j-1"].size(), 2u);
  h.CheckReplay();
}

}  // namespace
}  // namespace storyfarm::coordinator
