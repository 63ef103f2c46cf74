// CharacterPacks: made by the first result, taken by later jobs, waited for, named, removed, lost and trimmed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string Key(char c) { return std::string(32, c); }

// A story whose character has two identity frames, the first panels, and the pack of this key.
farm::v1::JobSpec Drawn(const std::string& id, char key, uint32_t frames = 4) {
  farm::v1::JobSpec spec = Story(id, frames, 2);
  spec.mutable_identities(0)->set_pack_key(Key(key));
  return spec;
}
// A story whose character takes a pack by name.
farm::v1::JobSpec Naming(const std::string& id, char key) {
  farm::v1::JobSpec spec = Drawn(id, key);
  farm::v1::FrameSet& set = *spec.mutable_frame_sets(0);
  set.clear_panels();
  for (uint32_t panel = 0; panel < 4; ++panel) set.add_panels(panel);
  spec.mutable_identities(0)->clear_panels();
  spec.mutable_identities(0)->set_pack("rex");
  return spec;
}

size_t Manifests(const Harness& h) {
  return static_cast<size_t>(std::count_if(h.records.begin(), h.records.end(),
                                           [](const farm::v1::Record& record) { return record.has_pack_stored(); }));
}
Reply Name(Harness& h, const std::string& pack, const std::string& name) {
  return h.Step(NamePack{900, pack, name}).replies.at(0);
}
Reply Remove(Harness& h, const std::string& pack) { return h.Step(ForgetPack{901, pack}).replies.at(0); }
std::string Hex(char c) { return absl::StrCat(absl::Hex(c), absl::Hex(c), absl::Hex(c), absl::Hex(c)); }

// A farm that has the pack of key 'a', made by job j-1.
struct WithPack : Harness {
  explicit WithPack(Limits limits = Limits()) : Harness(limits) {
    Connect("a");
    Submit(Drawn("j-1", 'a'));
    RunAll();
  }
};

TEST(Packs, ASecondJobTakesThePackAndNothingIsComputedForItsIdentity) {
  WithPack h;
  EXPECT_EQ(h.Status("j-1").identity_ms(), 0u) << "the harness's workers say no time";
  h.Submit(Drawn("j-2", 'a', 6));
  const farm::v1::TaskStatus identity = h.TaskOf("j-2", TASK_IDENTITY, 0);
  EXPECT_EQ(identity.state(), farm::v1::TASK_DONE);
  EXPECT_EQ(identity.attempts(), 0u);
  EXPECT_EQ(identity.pack().job_id(), "j-1");
  EXPECT_EQ(identity.pack().key(), Key('a'));
  for (uint32_t panel = 0; panel < 2; ++panel) {
    const farm::v1::TaskStatus mine = h.TaskOf("j-2", TASK_FRAME, panel);
    const farm::v1::TaskStatus first = h.TaskOf("j-1", TASK_FRAME, panel);
    EXPECT_EQ(mine.state(), farm::v1::TASK_DONE);
    EXPECT_EQ(mine.frame().image().digest(), first.frame().image().digest());
    EXPECT_EQ(mine.frame().panel(), panel);
    EXPECT_EQ(mine.frame().render_ms(), 0u);
    EXPECT_EQ(mine.attempts(), 0u);
  }
  // What reads the bank reads the pack's.
  EXPECT_EQ(h.holds["a"].front().grant.work().frames().banks(0).steps(0).digest(), DigestOf("bank0a"));
  h.RunAll();
  const farm::v1::JobStatus status = h.Status("j-2");
  EXPECT_EQ(status.state(), farm::v1::JOB_DONE);
  EXPECT_EQ(status.identity_ms(), 0u);
  EXPECT_EQ(status.identities_reused(), 1u);
  EXPECT_EQ(Manifests(h), 1u);
  const auto why = h.farm().Explain({h.now_ms, 0}, Task("j-2", TASK_IDENTITY, 0));
  ASSERT_TRUE(why.ok());
  EXPECT_THAT(why->sentences(0), HasSubstr("pack hit"));
  h.CheckReplay();
}

TEST(Packs, AnotherKeyOrNoneIsComputed) {
  WithPack h;
  h.Submit(Drawn("j-2", 'b'));
  EXPECT_EQ(h.TaskOf("j-2", TASK_IDENTITY, 0).state(), farm::v1::TASK_GRANTED);
  h.Submit(Story("j-3", 4, 2));
  h.RunAll();
  EXPECT_EQ(h.Status("j-2").identities_reused(), 0u);
  EXPECT_EQ(h.Status("j-3").identities_reused(), 0u);
  EXPECT_THAT(h.farm().ListPacks(), SizeIs(2));
  h.CheckReplay();
}

TEST(Packs, ABankThatNobodyReadsIsNotKeptAndMakesNoPack) {
  Harness h;
  h.Connect("a");
  farm::v1::JobSpec spec = Story("j-1", 2, 2);
  spec.mutable_identities(0)->set_pack_key(Key('a'));
  spec.mutable_identities(0)->set_read_by_others(false);
  h.Submit(spec);
  h.RunAll();
  EXPECT_THAT(h.farm().ListPacks(), IsEmpty());
}

TEST(Packs, OfTwoJobsThatWantOneIdentityTheSecondWaitsAndIsDoneByTheFirstOnesPack) {
  Harness h;
  h.Connect("a");
  h.Connect("b");
  h.Submit(Drawn("j-1", 'a'));
  h.Submit(Drawn("j-2", 'a'));
  h.Advance(1000);
  EXPECT_EQ(h.TaskOf("j-1", TASK_IDENTITY, 0).state(), farm::v1::TASK_GRANTED);
  EXPECT_EQ(h.TaskOf("j-2", TASK_IDENTITY, 0).state(), farm::v1::TASK_READY);
  const auto why = h.farm().Explain({h.now_ms, 0}, Task("j-2", TASK_IDENTITY, 0));
  ASSERT_TRUE(why.ok());
  EXPECT_THAT(why->sentences(0), HasSubstr("j-1/identity/0"));
  const std::string first = h.holds["a"].empty() ? "b" : "a";
  h.FinishOne(first);
  EXPECT_EQ(h.TaskOf("j-2", TASK_IDENTITY, 0).state(), farm::v1::TASK_DONE);
  EXPECT_EQ(h.TaskOf("j-2", TASK_IDENTITY, 0).pack().job_id(), "j-1");
  h.RunAll();
  EXPECT_EQ(Manifests(h), 1u);
  EXPECT_EQ(h.TaskOf("j-2", TASK_IDENTITY, 0).attempts(), 0u);
  h.CheckReplay();
}

TEST(Packs, WhereTheFirstOneIsCancelledOrItsMachineDiesTheSecondComputesIt) {
  for (const bool cancelled : {true, false}) {
    SCOPED_TRACE(cancelled);
    Harness h;
    h.Connect("a");
    h.Submit(Drawn("j-1", 'a'));
    h.Connect("b");
    h.Submit(Drawn("j-2", 'a'));
    ASSERT_EQ(h.First("a").second.job_id(), "j-1");
    if (cancelled) {
      h.Cancel("j-1");
    } else {
      h.Fault("a", farm::v1::PREEMPTED);
    }
    h.RunAll();
    EXPECT_EQ(h.Status("j-2").state(), farm::v1::JOB_DONE);
    EXPECT_EQ(Manifests(h), 1u);
    h.CheckReplay();
  }
}

TEST(Packs, AFastMachineDoesNotWaitForASlowOne) {
  Harness h;
  h.Connect("slow", 1);  // 100 s a task
  h.Submit(Drawn("j-1", 'a'));
  ASSERT_EQ(h.First("slow").second.kind(), TASK_IDENTITY);
  h.Connect("fast", 100);  // 1 s
  h.Submit(Drawn("j-2", 'a'));
  h.Advance(1000);
  EXPECT_EQ(h.First("fast").second.job_id(), "j-2");
  h.FinishOne("fast");
  EXPECT_EQ(h.farm().FindPack(Key('a'))->job_id(), "j-2");
  // The slow one's own result still counts, for its own job, and makes no second manifest.
  const auto [token, task] = h.First("slow");
  h.Say("slow", ResultFor(h.specs["j-1"], token, task, "slow"));
  EXPECT_EQ(h.verdicts["slow"].back().verdict(), farm::v1::ACCEPTED);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).frame().image().digest(), DigestOf("image0slow"));
  EXPECT_EQ(Manifests(h), 1u);
  EXPECT_EQ(h.farm().FindPack(Key('a'))->job_id(), "j-2");
  h.CheckReplay();
}

TEST(Packs, ALateResultOfAnIdentityThatAPackHasDoneIsStale) {
  Harness h;
  h.Connect("a");
  h.Submit(Drawn("j-1", 'a'));
  const auto [token, task] = h.First("a");
  h.Step(ChangeJob{800, "j-1", true, {}});  // so that nobody is granted it again
  h.Fault("a", farm::v1::PREEMPTED);
  ASSERT_EQ(h.TaskOf("j-1", TASK_IDENTITY, 0).state(), farm::v1::TASK_READY);
  h.Connect("b");
  h.Submit(Drawn("j-2", 'a'));
  ASSERT_EQ(h.First("b").second.job_id(), "j-2");
  h.FinishOne("b");
  EXPECT_EQ(h.TaskOf("j-1", TASK_IDENTITY, 0).pack().job_id(), "j-2");
  h.Say("a", ResultFor(h.specs["j-1"], token, task, "a"));
  EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::STALE);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).frame().image().digest(), DigestOf("image0b"));
  h.Step(ChangeJob{801, "j-1", false, {}});
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Packs, OneThatEveryMachineWouldHaveLaterThanItComputesIsComputed) {
  WithPack h;  // a pack of 10 bytes; the machine of the harness computes an identity in a second
  for (const uint64_t bytes_per_s : {uint64_t{100}, uint64_t{1}}) {
    SCOPED_TRACE(bytes_per_s);
    const std::string job = absl::StrCat("j-slow-", bytes_per_s);
    h.Restart();
    h.holds.clear();
    farm::v1::Hello hello = h.HelloOf("far", 100);
    hello.mutable_devices(0)->set_network_bytes_per_s(bytes_per_s);
    h.ConnectWith(hello);
    h.Submit(Drawn(job, 'a'));
    EXPECT_EQ(h.Status(job).identities_reused(), bytes_per_s == 100 ? 1u : 0u);
    h.RunAll();
    EXPECT_EQ(h.Status(job).state(), farm::v1::JOB_DONE);
  }
  EXPECT_EQ(Manifests(h), 1u) << "the first one stays";
  // A story that names it gets it all the same, and so does one that nobody is there to compute.
  ASSERT_TRUE(Name(h, Hex('a'), "rex").status.ok());
  h.Submit(Naming("j-named", 'a'));
  EXPECT_EQ(h.Status("j-named").identities_reused(), 1u);
  h.RunAll();
  h.CheckReplay();
}

TEST(Packs, AreKnownOverARestartAndTheJobsThatTheyServe) {
  WithPack h;
  h.Restart();
  EXPECT_THAT(h.farm().ListPacks(), SizeIs(1));
  h.Submit(Drawn("j-2", 'a'));
  h.Restart();
  EXPECT_EQ(h.TaskOf("j-2", TASK_IDENTITY, 0).pack().job_id(), "j-1");
  h.Connect("a");
  h.RunAll();
  EXPECT_EQ(h.Status("j-2").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Packs, OutliveTheJobThatMadeThemWithTheirBlobs) {
  WithPack h;
  h.Step(ForgetJob{800, "j-1"});
  h.specs.erase("j-1");
  EXPECT_EQ(h.farm().LiveBlobs().count(DigestOf("bank0a")), 1u);
  EXPECT_EQ(h.farm().LiveBlobs().count(DigestOf("image0a")), 1u);
  h.Submit(Drawn("j-2", 'a'));
  h.RunAll();
  EXPECT_EQ(h.Status("j-2").identities_reused(), 1u);
  h.CheckReplay();
}

TEST(Packs, OneWhoseBlobsAreMissingCountsAsAbsentAndIsComputedAnewUnderItsName) {
  for (const bool named : {false, true}) {
    SCOPED_TRACE(named);
    WithPack h;
    if (named) {
      ASSERT_TRUE(Name(h, Hex('a'), "rex").status.ok());
    }
    farm::v1::JobSpec spec = Drawn("j-2", 'a');
    h.specs["j-2"] = spec;
    h.Step(SubmitJob{700, spec, {{Key('a'), "another job's, made since"}, {Key('b'), "j-1"}}});
    EXPECT_EQ(h.Status("j-2").identities_reused(), 1u) << "what was lost is not this one";
    spec = Drawn("j-3", 'a');
    h.specs["j-3"] = spec;
    h.Step(SubmitJob{701, spec, {{Key('a'), "j-1"}}});
    EXPECT_EQ(h.Status("j-3").identities_reused(), 0u);
    EXPECT_EQ(h.farm().FindPack(Key('a')), nullptr);
    h.RunAll();
    ASSERT_NE(h.farm().FindPack(Key('a')), nullptr);
    EXPECT_EQ(h.farm().FindPack(Key('a'))->job_id(), "j-3");
    EXPECT_EQ(h.farm().GetPack("rex").ok(), named) << "a name stays";
    h.CheckReplay();
  }
}

TEST(Packs, WhereABlobOfABankIsGoneItsIdentityIsComputedAgainAndWhatReadsItWaits) {
  WithPack h;
  h.Submit(Drawn("j-2", 'a', 6));
  const std::string before = h.TaskOf("j-2", TASK_FRAME, 0).frame().image().digest();
  ASSERT_EQ(h.First("a").second.kind(), TASK_FRAME);
  h.LackBlob("a", DigestOf("another job's"));
  EXPECT_EQ(h.TaskOf("j-2", TASK_IDENTITY, 0).state(), farm::v1::TASK_DONE) << "it is of no bank";
  h.Advance(5000);
  h.Heartbeat("a");
  h.Advance(5000);
  const farm::v1::TaskId lacking = h.First("a").second;
  h.LackBlob("a", DigestOf("bank0a"));
  EXPECT_EQ(h.farm().FindPack(Key('a')), nullptr) << "nobody else takes it";
  EXPECT_EQ(h.TaskOf("j-2", TASK_IDENTITY, 0).state(), farm::v1::TASK_READY);
  EXPECT_EQ(h.TaskOf("j-2", TASK_FRAME, 0).state(), farm::v1::TASK_DONE) << "an accepted picture stays";
  EXPECT_EQ(h.TaskOf("j-2", TASK_FRAME, lacking.number()).state(), farm::v1::TASK_BLOCKED);
  h.CheckReplay();
  h.Restart();
  h.Connect("b");
  h.RunAll();
  const farm::v1::JobStatus status = h.Status("j-2");
  EXPECT_EQ(status.state(), farm::v1::JOB_DONE);
  EXPECT_EQ(status.identities_reused(), 0u);
  EXPECT_EQ(h.TaskOf("j-2", TASK_FRAME, 0).frame().image().digest(), before);
  ASSERT_NE(h.farm().FindPack(Key('a')), nullptr);
  EXPECT_EQ(h.farm().FindPack(Key('a'))->job_id(), "j-2");
  h.CheckReplay();
}

TEST(Packs, AResultOfAFrameThatWaitsForItsIdentityAgainIsStillTaken) {
  WithPack h;
  h.Submit(Drawn("j-2", 'a', 6));
  const auto [token, task] = h.First("a");
  h.LackBlob("a", DigestOf("bank0a"));
  ASSERT_EQ(h.TaskOf("j-2", TASK_FRAME, task.number()).state(), farm::v1::TASK_BLOCKED);
  h.Say("a", ResultFor(h.specs["j-2"], token, task, "a"));
  EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::ACCEPTED);
  EXPECT_EQ(h.TaskOf("j-2", TASK_FRAME, task.number()).state(), farm::v1::TASK_DONE);
  h.Connect("b");
  h.RunAll();
  EXPECT_EQ(h.Status("j-2").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Packs, WhereABlobOfANamedPackIsGoneThePanelsThatReadItFailWithASentence) {
  WithPack h;
  ASSERT_TRUE(Name(h, Hex('a'), "rex").status.ok());
  h.Submit(Naming("j-2", 'a'));
  h.LackBlob("a", DigestOf("bank0a"));
  EXPECT_EQ(h.TaskOf("j-2", TASK_IDENTITY, 0).state(), farm::v1::TASK_FAILED);
  EXPECT_THAT(h.TaskOf("j-2", TASK_FRAME, 1).message(), HasSubstr("files of the pack 'rex' are missing"));
  EXPECT_TRUE(h.farm().GetPack("rex")->lost());
  h.Connect("b");
  h.RunAll();
  EXPECT_EQ(h.Status("j-2").state(), farm::v1::JOB_FAILED) << "with stand-ins on its pages";
  // The story that it was made for computes it anew, under its name.
  h.Submit(Drawn("j-3", 'a'));
  h.RunAll();
  EXPECT_FALSE(h.farm().GetPack("rex")->lost());
  h.CheckReplay();
}

TEST(Packs, AStoryTakesAPackByNameAndIsRefusedWhereItWentMeanwhile) {
  WithPack h;
  ASSERT_TRUE(Name(h, Hex('a'), "rex").status.ok());
  h.Submit(Naming("j-2", 'a'));
  EXPECT_EQ(h.TaskOf("j-2", TASK_IDENTITY, 0).pack().name(), "rex");
  h.RunAll();
  EXPECT_EQ(h.Status("j-2").state(), farm::v1::JOB_DONE);
  ASSERT_TRUE(Remove(h, "rex").status.ok());
  const Reply refused = h.Submit(Naming("j-3", 'a'));
  h.specs.erase("j-3");
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status));
  EXPECT_THAT(std::string(refused.status.message()), HasSubstr("'rex'"));
  EXPECT_EQ(h.farm().FindJob("j-3"), JobPlace::kUnknown);
  h.CheckReplay();
}

TEST(Packs, HaveOneNameEachAndAreFoundByItOrByTheBeginningOfTheirKey) {
  WithPack h;
  h.Submit(Drawn("j-2", 'b'));
  h.RunAll();
  EXPECT_TRUE(absl::IsNotFound(Name(h, "nobody", "rex").status));
  EXPECT_TRUE(absl::IsInvalidArgument(Name(h, Hex('a'), "rex the dog").status));
  ASSERT_TRUE(Name(h, Hex('a'), "rex").status.ok());
  EXPECT_EQ(h.last.replies[0].after_record, h.records.size());
  ASSERT_TRUE(Name(h, "rex", "rex").status.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Name(h, Hex('b'), "rex").status));
  ASSERT_TRUE(Name(h, "rex", "rex-v2").status.ok());
  EXPECT_FALSE(h.farm().GetPack("rex").ok());
  ASSERT_TRUE(Name(h, Hex('b'), "rex").status.ok()) << "the name is free again";
  EXPECT_EQ(h.farm().GetPack("rex")->manifest().key(), Key('b'));
  EXPECT_EQ(h.farm().GetPack("rex-v2")->manifest().key(), Key('a'));
  EXPECT_THAT(h.farm().GetPack("rex")->manifest().frames(), SizeIs(2));
  EXPECT_THAT(h.farm().ListPacks()[0].manifest().frames(), IsEmpty()) << "a list is short";
  h.CheckReplay();
}

TEST(Packs, OneThatALiveJobNeedsIsNotRemoved) {
  WithPack h;
  h.Submit(Drawn("j-2", 'a'));
  const Reply refused = Remove(h, Hex('a'));
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status));
  EXPECT_THAT(std::string(refused.status.message()), HasSubstr("storyctl cancel j-2"));
  EXPECT_THAT(h.farm().GetPack(Hex('a'))->live_jobs(), ElementsAre("j-2"));
  h.RunAll();
  ASSERT_TRUE(Remove(h, Hex('a')).status.ok());
  EXPECT_TRUE(absl::IsNotFound(Remove(h, Hex('a')).status));
  EXPECT_THAT(h.farm().ListPacks(), IsEmpty());
  h.Submit(Drawn("j-3", 'a'));
  EXPECT_EQ(h.Status("j-3").identities_reused(), 0u);
  h.RunAll();
  h.CheckReplay();
}

TEST(Packs, OverTheBudgetTheOneUsedLongestAgoGoesFirstButNoNamedOneAndNoneInUse) {
  Limits limits;
  limits.pack_budget_bytes = 65;  // a pack takes 20
  Harness h(limits);
  h.Connect("a");
  for (const char key : {'a', 'b', 'c'}) {
    h.Submit(Drawn(absl::StrCat("j-", std::string(1, key)), key));
    h.RunAll();
    h.Advance(1000);
  }
  ASSERT_TRUE(Name(h, Hex('b'), "bo").status.ok());
  h.Submit(Drawn("j-again", 'a'));  // uses the oldest
  h.RunAll();
  h.Advance(1000);
  EXPECT_THAT(h.farm().ListPacks(), SizeIs(3)) << "within the budget";
  h.Submit(Drawn("j-d", 'd'));
  h.RunAll();
  h.Advance(1000);
  EXPECT_THAT(h.farm().ListPacks(), SizeIs(3));
  EXPECT_EQ(h.farm().FindPack(Key('c')), nullptr) << "used longest ago, and nobody's";
  EXPECT_NE(h.farm().FindPack(Key('b')), nullptr) << "it has a name";
  // One that a job with work left needs stays, however long ago it was used.
  h.Submit(Drawn("j-holds", 'a', 40));
  h.Advance(1000);
  h.Submit(Drawn("j-d2", 'd'));
  h.Cancel("j-d2");
  h.Submit(Drawn("j-e", 'e'));
  for (int i = 0; i < 100 && h.farm().FindPack(Key('e')) == nullptr; ++i) {
    h.FinishOne("a");
    h.Advance(250);
    h.Heartbeat("a");
  }
  h.Advance(1000);
  EXPECT_NE(h.farm().FindPack(Key('a')), nullptr) << "j-holds reads it";
  EXPECT_EQ(h.farm().FindPack(Key('d')), nullptr);
  h.RunAll();
  h.CheckReplay();
}

}  // namespace
}  // namespace storyfarm::coordinator
