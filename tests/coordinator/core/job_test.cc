// Jobs from submission to the book: order of tasks, statuses, outputs, archive.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/core/job.h"
#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_PAGE;

TEST(Job, RunsFromSubmissionToTheBook) {
  Harness h;
  h.Connect("a");
  h.Connect("b", 50);
  ASSERT_TRUE(h.Submit(Story("j-1", 10, 2)).status.ok());
  h.RunAll();
  const auto status = h.Status("j-1", true);
  EXPECT_EQ(status.state(), farm::v1::JOB_DONE);
  EXPECT_EQ(status.frames_done(), 10u);
  EXPECT_EQ(status.identities_done(), 1u);
  EXPECT_EQ(status.pages_done(), 2u);
  EXPECT_EQ(status.frames_attempted(), 8u);
  EXPECT_EQ(status.chapters(0).frames_done(), 10u);
  std::vector<std::string> paths;
  for (const auto& output : OutputsOf(status)) paths.push_back(output.path());
  EXPECT_EQ(paths.size(), 10u + 1 + 1 + 1);
  EXPECT_THAT(paths, ::testing::Contains("panels/009.png"));
  EXPECT_THAT(paths, ::testing::Contains("story.pdf"));
  EXPECT_TRUE(std::is_sorted(paths.begin(), paths.end()));
  h.CheckReplay();
}

TEST(Job, FramesWaitForTheIdentityAndGetItsBank) {
  Harness h;
  h.Connect("a");
  h.Connect("b");
  h.Submit(Story("j-1", 6, 2));
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 3).state(), farm::v1::TASK_BLOCKED);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_BLOCKED);  // the identity renders it
  EXPECT_EQ(h.HeldTasks("a") + h.HeldTasks("b"), 1u);
  h.FinishOne(h.holds["a"].empty() ? "b" : "a");
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_DONE);
  ASSERT_GT(h.HeldTasks("a"), 0u);
  EXPECT_EQ(h.holds["a"].front().grant.work().frames().banks_size(), 1);
}

TEST(Job, PagesWaitForTheirPanelsAndTheBookForAll) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 2));
  EXPECT_EQ(h.TaskOf("j-1", TASK_PAGE, 0).state(), farm::v1::TASK_BLOCKED);
  h.FinishOne("a");
  EXPECT_EQ(h.TaskOf("j-1", TASK_PAGE, 0).state(), farm::v1::TASK_BLOCKED);
  h.FinishOne("a");
  EXPECT_EQ(h.TaskOf("j-1", TASK_PAGE, 0).state(), farm::v1::TASK_GRANTED);
  EXPECT_EQ(h.TaskOf("j-1", TASK_PAGE, 1).state(), farm::v1::TASK_BLOCKED);
  h.FinishOne("a");
  EXPECT_EQ(h.TaskOf("j-1", TASK_PAGE, 1).state(), farm::v1::TASK_GRANTED);
  h.FinishOne("a");
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Job, TellsWhoRenderedWhatAlsoAfterARestart) {
  Harness h;
  h.Connect("mac-mini");
  h.Submit(Story("j-1", 2));
  h.FinishOne("mac-mini");
  h.Restart();
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).node(), "mac-mini");
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).frame().image().digest(), DigestOf("image0mac-mini"));
}

TEST(Job, ShowsPaceAndTimeLeft) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 100));
  EXPECT_LT(h.Status("j-1").seconds_left(), 0);
  for (int i = 0; i < 40; ++i) {
    h.Advance(1000);
    h.FinishOne("a");
    h.Heartbeat("a");
  }
  EXPECT_NEAR(h.Status("j-1").frames_per_minute(), 60, 3);
  EXPECT_NEAR(h.Status("j-1").seconds_left(), 60, 5);
}

TEST(Job, ProgressIsShownWithItsStep) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  const auto [token, task] = h.First("a");
  farm::v1::WorkerMessage message;
  *message.mutable_progress()->mutable_token() = token;
  *message.mutable_progress()->mutable_task() = task;
  message.mutable_progress()->set_step(7);
  message.mutable_progress()->set_steps(35);
  h.Say("a", message);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).step(), 7u);
  const auto nodes = h.farm().ListNodes({h.now_ms, 0});
  ASSERT_EQ(nodes.size(), 1u);
  EXPECT_EQ(nodes[0].devices(0).task(), "j-1/frame/0");
  EXPECT_EQ(nodes[0].devices(0).steps(), 35u);
  EXPECT_GT(nodes[0].devices(0).planned_bytes(), 0u);
  EXPECT_EQ(nodes[0].devices(0).plan().predicted_peak_bytes(), nodes[0].devices(0).planned_bytes());
  EXPECT_THAT(h.last.changed_jobs, ::testing::ElementsAre("j-1"));
}

TEST(Job, FinishedJobsLeaveForTheArchiveAndTheirKeysStayKnown) {
  Limits limits;
  limits.finished_jobs_hot = 1;
  limits.archived_jobs = 2;
  Harness h(limits);
  h.Connect("a");
  std::vector<std::string> archived;
  for (int i = 1; i <= 5; ++i) {
    const std::string id = absl::StrCat("j-", i);
    h.specs.clear();
    h.Submit(Story(id, 1));
    std::vector<Archive> offered;
    while (h.Status(id).finished_unix_ms() == 0) {
      h.FinishOne("a");
      offered.insert(offered.end(), h.last.archives.begin(), h.last.archives.end());
    }
    for (const Archive& archive : offered) {
      const farm::v1::JobArchive body = archive.Body();
      EXPECT_EQ(body.status().state(), farm::v1::JOB_DONE);
      EXPECT_EQ(body.status().tasks_size(), 3);
      EXPECT_EQ(body.spec().SerializeAsString(), Story(archive.job_id, 1).SerializeAsString());
      h.Step(ArchiveStored{archive.job_id});
      archived.push_back(archive.job_id);
    }
  }
  EXPECT_THAT(archived, ::testing::ElementsAre("j-1", "j-2", "j-3", "j-4"));
  EXPECT_EQ(h.farm().FindJob("j-5"), JobPlace::kHot);
  EXPECT_EQ(h.farm().FindJob("j-4"), JobPlace::kArchived);
  EXPECT_EQ(h.farm().FindJob("j-2"), JobPlace::kUnknown);  // beyond what is remembered
  const Reply again = h.Submit(Story("j-9", 1));
  EXPECT_TRUE(again.status.ok());
  farm::v1::JobSpec same = Story("j-10", 1);
  same.set_idempotency_key("key-j-4");
  same.set_request_digest(DigestOf("request-j-4"));
  const Reply known = h.Submit(same);
  EXPECT_TRUE(known.existed);
  EXPECT_EQ(known.job_id, "j-4");
  std::string next;
  const auto page = h.farm().ListJobs(2, "", &next);
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->at(0).job_id, "j-9");
  EXPECT_EQ(page->at(1).job_id, "j-5");
  const auto rest = h.farm().ListJobs(10, next, &next);
  ASSERT_TRUE(rest.ok());
  ASSERT_EQ(rest->size(), 2u);
  EXPECT_EQ(rest->at(0).job_id, "j-4");
  EXPECT_TRUE(rest->at(0).archived);
  EXPECT_TRUE(next.empty());
  EXPECT_TRUE(absl::IsInvalidArgument(h.farm().ListJobs(10, "nonsense", &next).status()));
  h.CheckReplay();
}

TEST(Job, AnArchiveThatWasNotStoredIsOfferedAgainAfterARestart) {
  Limits limits;
  limits.finished_jobs_hot = 0;
  Harness h(limits);
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  while (h.Status("j-1").finished_unix_ms() == 0) h.FinishOne("a");
  EXPECT_EQ(h.last.archives.size(), 1u);
  h.Advance(1000);
  EXPECT_TRUE(h.last.archives.empty());
  h.Restart();
  EXPECT_EQ(h.last.archives.size(), 1u);
}

// Remembers all that it was given.
class Shelf : public SpecShelf {
 public:
  std::shared_ptr<const PackedSpec> Keep(const farm::v1::JobSpec& spec) override { return Keep(PackedSpec(spec)); }
  std::shared_ptr<const PackedSpec> Keep(PackedSpec spec) override {
    auto& kept = specs[spec.Unpack().SerializeAsString()];
    if (kept == nullptr) kept = std::make_shared<const PackedSpec>(std::move(spec));
    return kept;
  }
  std::map<std::string, std::shared_ptr<const PackedSpec>> specs;
};

TEST(Job, FoldsOfOneLogShareTheSpecAndSerializeToTheSameBytes) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 70, 2));
  h.FinishOne("a");
  h.FinishOne("a");
  Shelf shelf;
  Farm first(&h.planner, Limits(), &shelf);
  Farm second(&h.planner, Limits(), &shelf);
  for (const auto& record : h.records) {
    ASSERT_TRUE(first.Apply(record).ok());
    ASSERT_TRUE(second.Apply(record).ok());
  }
  EXPECT_EQ(first.FindSpec("j-1"), second.FindSpec("j-1"));
  EXPECT_EQ(first.FindSpec("j-1")->Unpack().SerializeAsString(), h.specs["j-1"].SerializeAsString());
  Farm loaded(&h.planner, Limits(), &shelf);
  ASSERT_TRUE(loaded.LoadState(h.farm().SerializeState()).ok());
  EXPECT_EQ(loaded.FindSpec("j-1"), first.FindSpec("j-1"));
  EXPECT_TRUE(first.SerializeState() == h.farm().SerializeState());
  EXPECT_TRUE(loaded.SerializeState() == h.farm().SerializeState());
  EXPECT_EQ(shelf.specs.size(), 1u);
}

TEST(Slots, TasksThatWereNeverGrantedTakeAByteAndReadLikeAnyOther) {
  Slots slots;
  slots.Resize(130, farm::v1::TASK_BLOCKED);
  slots.set_state(3, farm::v1::TASK_READY);
  EXPECT_EQ(slots[3].state, farm::v1::TASK_READY);
  EXPECT_EQ(slots[129].state, farm::v1::TASK_BLOCKED);
  const Slot* shared = &slots[129];
  EXPECT_EQ(shared, &slots[128]);
  slots.Mutable(128).attempts = 1;  // its neighbours keep what they were
  EXPECT_EQ(slots[129].state, farm::v1::TASK_BLOCKED);
  EXPECT_EQ(slots[129].attempts, 0);
  EXPECT_EQ(slots[128].attempts, 1);
  EXPECT_NE(&slots[129], &slots[128]);
  slots.set_state(128, farm::v1::TASK_GRANTED);
  EXPECT_EQ(slots[128].state, farm::v1::TASK_GRANTED);
  EXPECT_EQ(slots.state(128), farm::v1::TASK_GRANTED);
  Slots read;
  read.Resize(130, farm::v1::TASK_READY);
  for (uint32_t i = 0; i < 130; ++i) read.Put(i, slots[i]);
  for (uint32_t i = 0; i < 130; ++i) EXPECT_EQ(read[i], slots[i]) << i;
  EXPECT_EQ(&read[4], &slots[4]);  // nothing of its own
}

}  // namespace
}  // namespace storyfarm::coordinator
