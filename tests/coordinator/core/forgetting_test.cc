// Jobs that are removed, by a person or by age, and blobs that are condemned.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Reply Remove(Harness& h, const std::string& job) { return h.Step(ForgetJob{1000, job}).replies.at(0); }

Limits ArchiveAtOnce() {
  Limits limits;
  limits.finished_jobs_hot = 0;
  return limits;
}

std::vector<std::string> Listed(Harness& h) {
  std::string next;
  std::vector<std::string> ids;
  const auto jobs = h.farm().ListJobs(100, "", &next);
  EXPECT_TRUE(jobs.ok());
  for (const JobListing& job : *jobs) ids.push_back(job.job_id);
  return ids;
}

TEST(Forgetting, AJobThatRunsIsRefusedWithWhatToDoAndStays) {
  Harness h;
  h.Submit(Story("j-1", 2));
  const Reply reply = Remove(h, "j-1");
  EXPECT_TRUE(absl::IsFailedPrecondition(reply.status));
  EXPECT_THAT(std::string(reply.status.message()), HasSubstr("storyctl cancel j-1"));
  EXPECT_EQ(h.farm().FindJob("j-1"), JobPlace::kHot);
  EXPECT_TRUE(absl::IsNotFound(Remove(h, "j-2").status));
}

TEST(Forgetting, AFinishedJobIsForgottenWithItsBlobsAndItsKey) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 3, 1));
  h.RunAll();
  EXPECT_FALSE(h.farm().LiveBlobs().empty());
  ASSERT_TRUE(Remove(h, "j-1").status.ok());
  EXPECT_EQ(h.farm().FindJob("j-1"), JobPlace::kUnknown);
  EXPECT_THAT(Listed(h), IsEmpty());
  EXPECT_THAT(h.farm().LiveBlobs(), IsEmpty());
  EXPECT_TRUE(absl::IsNotFound(Remove(h, "j-1").status));
  h.specs.erase("j-1");
  // The key makes a new job, and the farm goes on.
  farm::v1::JobSpec again = Story("j-2", 3);
  again.set_idempotency_key("key-j-1");
  const Reply reply = h.Submit(again);
  ASSERT_TRUE(reply.status.ok()) << reply.status;
  EXPECT_FALSE(reply.existed);
  h.RunAll();
  EXPECT_EQ(h.Status("j-2").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Forgetting, ACancelledJobIsForgottenAndLateResultsOfItAreStale) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 3));
  const auto [token, task] = h.First("a");
  ASSERT_TRUE(h.Cancel("j-1").status.ok());
  ASSERT_TRUE(Remove(h, "j-1").status.ok());
  h.Say("a", ResultFor(h.specs["j-1"], token, task));
  h.specs.erase("j-1");
  EXPECT_EQ(h.farm().FindJob("j-1"), JobPlace::kUnknown);
  h.Submit(Story("j-2", 3));
  h.RunAll();
  EXPECT_EQ(h.Status("j-2").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Forgetting, AnArchivedJobLeavesTheStoreToo) {
  Harness h(ArchiveAtOnce());
  h.Connect("a");
  h.Submit(Story("j-1", 2));
  h.RunAll();
  // Offered to the archive and not stored yet.
  EXPECT_TRUE(absl::IsAborted(Remove(h, "j-1").status));
  h.Step(ArchiveStored{"j-1"});
  ASSERT_EQ(h.farm().FindJob("j-1"), JobPlace::kArchived);
  ASSERT_TRUE(Remove(h, "j-1").status.ok());
  ASSERT_EQ(h.last.dropped_archives.size(), 1u);
  EXPECT_EQ(h.last.dropped_archives[0].job_id, "j-1");
  EXPECT_EQ(h.last.dropped_archives[0].after_record, h.records.size());
  h.Step(Tick{});
  EXPECT_THAT(h.last.dropped_archives, IsEmpty());
  EXPECT_THAT(Listed(h), IsEmpty());
  h.CheckReplay();
}

TEST(Forgetting, AnArchiveThatWasNotDroppedBeforeARestartIsDroppedAfterIt) {
  Harness h(ArchiveAtOnce());
  h.Connect("a");
  h.Submit(Story("j-1", 2));
  h.RunAll();
  h.Step(ArchiveStored{"j-1"});
  ASSERT_TRUE(Remove(h, "j-1").status.ok());
  h.Restart();
  ASSERT_EQ(h.last.dropped_archives.size(), 1u);
  EXPECT_EQ(h.last.dropped_archives[0].job_id, "j-1");
  h.Step(ArchiveRemoved{"j-1"});
  h.Restart();
  EXPECT_THAT(h.last.dropped_archives, IsEmpty());
  h.CheckReplay();
}

TEST(Forgetting, JobsAreForgottenByAge) {
  Limits limits;
  limits.keep_finished_ms = 10'000;
  Harness h(limits);
  h.Connect("a");
  h.Submit(Story("j-1", 2));
  h.RunAll();
  const int64_t ended_ms = h.now_ms;
  h.Advance(9'000);
  EXPECT_EQ(h.farm().FindJob("j-1"), JobPlace::kHot) << "after " << h.now_ms - ended_ms;
  h.Advance(2'000);
  EXPECT_EQ(h.farm().FindJob("j-1"), JobPlace::kUnknown);
  h.CheckReplay();
}

TEST(Forgetting, OfTooManyTheOneThatEndedFirstGoesHotOrArchived) {
  Limits limits;
  limits.keep_finished_jobs = 2;
  limits.finished_jobs_hot = 1;
  Harness h(limits);
  h.Submit(Story("j-1", 2));
  h.Submit(Story("j-2", 2));
  h.Submit(Story("j-3", 2));
  h.Submit(Story("j-4", 2));
  h.Cancel("j-3");
  h.Advance(1000);
  h.Cancel("j-1");
  h.Step(ArchiveStored{"j-3"});
  h.Advance(1000);
  EXPECT_THAT(Listed(h), ElementsAre("j-4", "j-3", "j-2", "j-1"));  // two have ended
  h.Cancel("j-2");
  h.Advance(1000);
  EXPECT_THAT(Listed(h), ElementsAre("j-4", "j-2", "j-1"));
  h.CheckReplay();
}

TEST(Forgetting, CondemnedBlobsAreKnownOverARestartUntilTheyAreGone) {
  Harness h;
  const std::string a = DigestOf("a"), b = DigestOf("b");
  ASSERT_TRUE(h.Step(CondemnBlobs{1, {a, b}}).replies.at(0).status.ok());
  EXPECT_EQ(h.last.replies[0].after_record, h.records.size());
  h.Restart();
  EXPECT_THAT(h.farm().CondemnedBlobs(), ElementsAre(a, b));
  h.Step(BlobsUnlinked{2, {a}});
  EXPECT_THAT(h.farm().CondemnedBlobs(), ElementsAre(b));
  h.CheckReplay();
}

}  // namespace
}  // namespace storyfarm::coordinator
