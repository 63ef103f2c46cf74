// What storyctl asks: idempotency, cancel, models, limits, bad input.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

TEST(Requests, NothingIsDecidedBeforeTheTakeOver) {
  TablePlanner planner;
  Farm farm(&planner);
  const Decisions out = farm.Step({0, 0}, SubmitJob{1, Story("j-1", 1)});
  EXPECT_TRUE(out.records.empty());
  EXPECT_TRUE(out.replies.empty());
}

TEST(Requests, ARepliesWaitsForItsRecord) {
  Harness h;
  const Reply reply = h.Submit(Story("j-1", 1));
  EXPECT_EQ(reply.after_record, h.records.size());
  EXPECT_EQ(reply.job_id, "j-1");
  EXPECT_FALSE(reply.existed);
}

TEST(Requests, TheSameKeyAndContentIsTheSameJob) {
  Harness h;
  h.Submit(Story("j-1", 3));
  farm::v1::JobSpec again = Story("j-2", 3);
  again.set_idempotency_key("key-j-1");
  again.set_request_digest(DigestOf("request-j-1"));
  const size_t records = h.records.size();
  const Reply reply = h.Submit(again);
  EXPECT_TRUE(reply.status.ok());
  EXPECT_TRUE(reply.existed);
  EXPECT_EQ(reply.job_id, "j-1");
  EXPECT_EQ(h.records.size(), records);
  std::string digest;
  EXPECT_EQ(h.farm().FindKey("key-j-1", &digest), "j-1");
  EXPECT_EQ(digest, DigestOf("request-j-1"));
}

TEST(Requests, TheSameKeyWithOtherContentIsRefused) {
  Harness h;
  h.Submit(Story("j-1", 3));
  farm::v1::JobSpec other = Story("j-2", 4);
  other.set_idempotency_key("key-j-1");
  EXPECT_TRUE(absl::IsAlreadyExists(h.Submit(other).status));
  EXPECT_EQ(h.farm().FindJob("j-2"), JobPlace::kUnknown);
}

TEST(Requests, CancelRevokesWhatRunsAndLateResultsAreStale) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 10));
  const auto [token, task] = h.First("a");
  EXPECT_TRUE(h.Cancel("j-1").status.ok());
  EXPECT_FALSE(h.revokes["a"].empty());
  EXPECT_TRUE(h.holds["a"].empty());
  h.Say("a", ResultFor(h.specs["j-1"], token, task));
  EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::STALE);
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_CANCELLED);
  EXPECT_TRUE(absl::IsFailedPrecondition(h.Cancel("j-1").status));
  EXPECT_TRUE(absl::IsNotFound(h.Cancel("j-9").status));
  h.CheckReplay();
}

TEST(Requests, CancelAfterTheLastResultComesTooLate) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  while (h.Status("j-1").finished_unix_ms() == 0) h.FinishOne("a");
  EXPECT_TRUE(absl::IsFailedPrecondition(h.Cancel("j-1").status));
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
}

TEST(Requests, AJobThatWasCancelledWhileItsNodeWasAwayIsDroppedAtItsReturn) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 4));
  h.Step(WorkerGone{h.session_of["a"]});
  h.Cancel("j-1");
  ASSERT_GT(h.HeldTasks("a"), 0u);
  h.Connect("a");
  EXPECT_EQ(h.HeldTasks("a"), 0u);
  for (const auto& verdict : h.welcomes["a"].held()) EXPECT_FALSE(verdict.keep());
}

TEST(Requests, ModelsKeepTheirNames) {
  Harness h;
  farm::v1::ModelManifest model;
  model.set_name("tiny");
  model.set_digest(DigestOf("one"));
  model.mutable_profile();
  EXPECT_TRUE(h.Step(AddModel{1, model}).replies.at(0).status.ok());
  EXPECT_TRUE(h.Step(AddModel{2, model}).replies.at(0).status.ok());
  model.set_digest(DigestOf("two"));
  EXPECT_TRUE(absl::IsAlreadyExists(h.Step(AddModel{3, model}).replies.at(0).status));
  h.Restart();
  ASSERT_NE(h.farm().FindModel("tiny"), nullptr);
  EXPECT_EQ(h.farm().FindModel("tiny")->digest(), DigestOf("one"));
  EXPECT_EQ(h.farm().ListModels().size(), 1u);
}

TEST(Requests, LimitsAreKeptAndSaid) {
  Limits limits;
  limits.live_jobs = 1;
  limits.frames_a_job = 5;
  Harness h(limits);
  const Reply large = h.Submit(Story("j-1", 6));
  EXPECT_TRUE(absl::IsInvalidArgument(large.status));
  EXPECT_THAT(std::string(large.status.message()), ::testing::HasSubstr("at most 5"));
  EXPECT_TRUE(h.Submit(Story("j-2", 5)).status.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(h.Submit(Story("j-3", 1)).status));
}

TEST(Requests, ASpecThatDoesNotHoldTogetherIsRefused) {
  Harness h;
  auto refused = [&h](const farm::v1::JobSpec& spec) {
    const size_t records = h.records.size();
    const bool bad = absl::IsInvalidArgument(h.Submit(spec).status);
    return bad && h.records.size() == records;
  };
  farm::v1::JobSpec spec = Story("j-1", 3);
  spec.mutable_frame_sets(0)->add_panels(2);
  EXPECT_TRUE(refused(spec)) << "a panel twice";
  spec = Story("j-1", 3);
  spec.mutable_frame_sets(0)->mutable_panels()->RemoveLast();
  EXPECT_TRUE(refused(spec)) << "a panel that nobody renders";
  spec = Story("j-1", 3);
  spec.mutable_frame_sets(0)->add_identities(0);
  EXPECT_TRUE(refused(spec)) << "an identity that is none";
  spec = Story("j-1", 3);
  spec.mutable_pages(0)->set_book(true);
  EXPECT_TRUE(refused(spec)) << "a book before a page";
  spec = Story("j-1", 3);
  spec.mutable_pages(0)->add_panels(7);
  EXPECT_TRUE(refused(spec)) << "a page with a panel that is none";
  spec = Story("j-1", 3);
  spec.clear_idempotency_key();
  EXPECT_TRUE(refused(spec)) << "no key";
  EXPECT_TRUE(refused(Story("j-1", 0))) << "no panels";
}

TEST(Requests, AWorkerOfAnotherProtocolIsToldSo) {
  Harness h;
  farm::v1::Hello hello = h.HelloOf("old");
  hello.set_protocol_version(kProtocolVersion + 1);
  const uint64_t session = h.ConnectWith(hello);
  ASSERT_TRUE(absl::IsFailedPrecondition(h.closed[session]));
  EXPECT_THAT(std::string(h.closed[session].message()), ::testing::HasSubstr("install the same version"));
  EXPECT_TRUE(h.farm().ListNodes({0, 0}).empty());
}

TEST(Requests, DamagedRecordsAndSnapshotsAreRefused) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 3));
  while (h.Status("j-1").finished_unix_ms() == 0) h.FinishOne("a");
  for (size_t skipped = 0; skipped < h.records.size() - 1; ++skipped) {
    Farm fold(&h.planner);
    absl::Status status;
    for (size_t i = 0; i < h.records.size() && status.ok(); ++i) {
      if (i != skipped) status = fold.Apply(h.records[i]);
    }
    EXPECT_TRUE(absl::IsDataLoss(status)) << "record " << skipped << " is missing";
  }
  const std::string bytes = h.farm().SerializeState().at(0);
  for (size_t size = 0; size < bytes.size(); size += 7) {
    Farm loaded(&h.planner);
    EXPECT_TRUE(absl::IsDataLoss(loaded.LoadState({bytes.substr(0, size)}))) << size;
  }
}

}  // namespace
}  // namespace storyfarm::coordinator
