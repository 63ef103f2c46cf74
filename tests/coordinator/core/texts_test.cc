// Text tasks: what waits for them, who need not compute them, and what happens to lost files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using farm::v1::TASK_TEXT;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A story whose identity frames' prompts are text task 0, the other frames' task 1.
farm::v1::JobSpec Texts(const std::string& id, char key, uint32_t frames = 6) {
  farm::v1::JobSpec spec = Story(id, frames, 2);
  farm::v1::TextTask& of_identity = *spec.add_texts();
  of_identity.add_identities(0);
  of_identity.set_key(std::string(32, key));
  farm::v1::TextTask& of_frames = *spec.add_texts();
  for (uint32_t panel = 2; panel < frames; ++panel) of_frames.add_panels(panel);
  of_frames.set_key(std::string(32, static_cast<char>(key + 1)));
  return spec;
}

farm::v1::TaskState StateOf(Harness& h, const std::string& job, farm::v1::TaskKind kind, uint32_t number) {
  return h.TaskOf(job, kind, number).state();
}
size_t Taken(const Harness& h) {
  return static_cast<size_t>(std::count_if(h.records.begin(), h.records.end(),
                                           [](const farm::v1::Record& record) { return record.has_text_taken(); }));
}

TEST(Texts, IdentitiesAndFramesWaitForTheirPromptsAndReadWhatWasMade) {
  Harness h;
  h.Submit(Texts("j-1", 'a'));
  EXPECT_EQ(StateOf(h, "j-1", TASK_IDENTITY, 0), farm::v1::TASK_BLOCKED);
  const auto why = h.farm().Explain({h.now_ms, 0}, Task("j-1", TASK_IDENTITY, 0));
  ASSERT_TRUE(why.ok());
  EXPECT_THAT(why->sentences(0), HasSubstr("j-1/text/0"));
  h.Connect("a");
  ASSERT_EQ(h.First("a").second.kind(), TASK_TEXT);
  h.FinishOne("a");
  EXPECT_EQ(StateOf(h, "j-1", TASK_TEXT, 0), farm::v1::TASK_DONE);
  EXPECT_NE(StateOf(h, "j-1", TASK_IDENTITY, 0), farm::v1::TASK_BLOCKED);
  EXPECT_EQ(StateOf(h, "j-1", TASK_FRAME, 2), farm::v1::TASK_BLOCKED);
  h.CheckReplay();
  while (h.First("a").second.kind() != TASK_FRAME) h.FinishOne("a");
  const farm::v1::FramesWork& work = h.holds["a"].front().grant.work().frames();
  ASSERT_EQ(work.text().files_size(), 1);
  EXPECT_EQ(work.text().files(0).digest(), DigestOf("text1a"));
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Texts, AJobWithTheSamePromptsTakesWhatAnEarlierOneMade) {
  Harness h;
  h.Connect("a");
  h.Submit(Texts("j-1", 'a'));
  h.RunAll();
  EXPECT_EQ(Taken(h), 0u);
  h.Submit(Texts("j-2", 'a'));
  EXPECT_EQ(StateOf(h, "j-2", TASK_TEXT, 0), farm::v1::TASK_DONE);
  h.RunAll();
  EXPECT_EQ(Taken(h), 2u);
  EXPECT_EQ(h.TaskOf("j-2", TASK_TEXT, 1).attempts(), 0u);
  EXPECT_EQ(h.Status("j-2").state(), farm::v1::JOB_DONE);
  h.CheckReplay();
}

TEST(Texts, WhereAPackStandsInNobodyEncodesTheIdentitysPrompts) {
  Harness h;
  h.Connect("a");
  farm::v1::JobSpec spec = Texts("j-1", 'a');
  spec.mutable_identities(0)->set_pack_key(std::string(32, 'p'));
  h.Submit(spec);
  h.RunAll();
  spec = Texts("j-2", 'k');
  spec.mutable_identities(0)->set_pack_key(std::string(32, 'p'));
  h.Submit(spec);
  EXPECT_EQ(StateOf(h, "j-2", TASK_IDENTITY, 0), farm::v1::TASK_DONE);
  EXPECT_EQ(StateOf(h, "j-2", TASK_TEXT, 0), farm::v1::TASK_DONE);
  EXPECT_EQ(h.TaskOf("j-2", TASK_TEXT, 0).attempts(), 0u);
  h.CheckReplay();
  // Its bank is lost: now they are needed.
  while (h.First("a").second.kind() != TASK_FRAME) h.FinishOne("a");
  h.LackBlob("a", DigestOf("bank0a"));
  EXPECT_EQ(StateOf(h, "j-2", TASK_IDENTITY, 0), farm::v1::TASK_BLOCKED);
  EXPECT_EQ(StateOf(h, "j-2", TASK_TEXT, 0), farm::v1::TASK_READY);
  h.CheckReplay();
  h.RunAll();
  EXPECT_EQ(h.Status("j-2").state(), farm::v1::JOB_DONE);
  EXPECT_EQ(h.TaskOf("j-2", TASK_TEXT, 0).attempts(), 1u);
}

TEST(Texts, WhereTheirFileIsGonePromptsAreEncodedAgainAndNoLaterJobTakesThem) {
  Harness h;
  h.Connect("a");
  h.Submit(Texts("j-1", 'a'));
  while (h.First("a").second.kind() != TASK_FRAME) h.FinishOne("a");
  h.LackBlob("a", DigestOf("text1a"));
  EXPECT_EQ(StateOf(h, "j-1", TASK_TEXT, 1), farm::v1::TASK_READY);
  EXPECT_EQ(StateOf(h, "j-1", TASK_FRAME, 3), farm::v1::TASK_BLOCKED);
  EXPECT_EQ(StateOf(h, "j-1", TASK_TEXT, 0), farm::v1::TASK_DONE) << "that one is whole";
  h.CheckReplay();
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  EXPECT_EQ(h.TaskOf("j-1", TASK_TEXT, 1).attempts(), 2u);
  h.CheckReplay();
}

TEST(Texts, PromptsThatNoDeviceCanEncodeFailWhatReadsThemAndTheJobEnds) {
  Harness h;
  h.Connect("a");
  h.Submit(Texts("j-1", 'a'));
  ASSERT_EQ(h.First("a").second.kind(), TASK_TEXT);
  h.Fault("a", farm::v1::BAD_INPUT, "a prompt is no text");
  EXPECT_EQ(StateOf(h, "j-1", TASK_IDENTITY, 0), farm::v1::TASK_FAILED);
  EXPECT_EQ(StateOf(h, "j-1", TASK_FRAME, 3), farm::v1::TASK_FAILED);
  EXPECT_THAT(h.TaskOf("j-1", TASK_FRAME, 0).message(), HasSubstr("a prompt is no text"));
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_FAILED);
  h.CheckReplay();
}

TEST(Texts, EmbeddingsBeyondTheBudgetGoTheOldestFirst) {
  Limits limits;
  limits.texts = 3;
  Harness h(limits);
  h.Connect("a");
  for (const char key : {'a', 'c'}) {
    h.Submit(Texts(absl::StrCat("j-", std::string(1, key)), key));
    h.RunAll();
    h.Advance(1000);
  }
  h.Submit(Texts("j-again", 'c'));
  EXPECT_EQ(Taken(h), 1u);
  h.Submit(Texts("j-gone", 'a'));
  EXPECT_NE(StateOf(h, "j-gone", TASK_TEXT, 0), farm::v1::TASK_DONE) << "it is computed anew";
  h.RunAll();
  h.CheckReplay();
}

TEST(Texts, ASpecWhoseTextTasksDoNotHoldTogetherIsRefused) {
  Harness h;
  farm::v1::JobSpec spec = Texts("j-1", 'a');
  spec.mutable_texts(1)->add_panels(2);
  EXPECT_FALSE(h.Submit(spec).status.ok()) << "twice";
  spec = Texts("j-1", 'a');
  spec.mutable_texts(1)->mutable_panels()->RemoveLast();
  EXPECT_FALSE(h.Submit(spec).status.ok()) << "one lacks its prompt";
  spec = Texts("j-1", 'a');
  spec.mutable_texts(1)->add_panels(77);
  EXPECT_FALSE(h.Submit(spec).status.ok()) << "no such panel";
  spec = Texts("j-1", 'a');
  spec.mutable_texts(0)->clear_key();
  EXPECT_FALSE(h.Submit(spec).status.ok());
}

}  // namespace
}  // namespace storyfarm::coordinator
