#include "pipeline/plan/work.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/status/status.h"
#include "pipeline/plan/expand.h"
#include "tests/pipeline/plan/shapes.h"

namespace storyfarm::plan {
namespace {

using farm::v1::JobSpec;
using farm::v1::MemoryPlan;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// Panels: 0 and 1 serve A, 2 reads A and B (B has no panel of its own), 3 reads nothing, 4 reads A.
JobSpec Job() {
  farm::v1::Story story = StoryOf(2, {{0}, {0}, {0, 1}, {}, {0}});
  story.mutable_settings()->set_id_length(2);
  story.mutable_settings()->set_seed(7);
  story.mutable_settings()->mutable_style()->set_prompt("ink, {prompt}");
  story.mutable_settings()->set_negative_prompt("blurry");
  story.mutable_chapters(0)->mutable_panels(4)->set_seed(99);
  story.mutable_chapters(0)->mutable_panels(4)->set_width(512);
  story.mutable_page()->set_columns(2);
  story.mutable_page()->set_rows(2);
  story.set_title("A book");
  const Expansion expansion = ExpandStory(story, Manifest(SdxlProfile()));
  EXPECT_TRUE(expansion.ok());
  JobSpec job = expansion.job;
  job.set_job_id("j-0123456789");
  return job;
}

farm::v1::Bank BankOf(uint32_t character) {
  farm::v1::Bank bank;
  bank.set_character(character);
  bank.set_identity_frames(character + 1);
  return bank;
}

TEST(WorkFor, AnIdentityTaskCarriesItsFramesWithStyleAndSeed) {
  MemoryPlan plan;
  plan.set_batch(2);
  const auto work = WorkFor(Job(), farm::v1::TASK_IDENTITY, {0}, plan, {});
  ASSERT_TRUE(work.ok()) << work.status();
  const farm::v1::IdentityWork& identity = work->identity();
  EXPECT_EQ(identity.plan().batch(), 2u);
  EXPECT_TRUE(identity.keep_bank());
  EXPECT_FALSE(identity.model().has_profile());
  ASSERT_THAT(identity.frames(), SizeIs(2));
  EXPECT_EQ(identity.frames(1).panel(), 1u);
  EXPECT_EQ(identity.frames(1).id(), "p-1");
  EXPECT_EQ(identity.frames(1).prompt(), "ink, prompt 1");
  EXPECT_EQ(identity.frames(1).negative_prompt(), "blurry");
  EXPECT_EQ(identity.frames(1).seed(), 7u);
  EXPECT_FALSE(identity.frames(1).hidden());
}

TEST(WorkFor, AHiddenFrameIsKeyedByItsCharacterAlone) {
  const auto work = WorkFor(Job(), farm::v1::TASK_IDENTITY, {1}, MemoryPlan(), {});
  ASSERT_TRUE(work.ok()) << work.status();
  ASSERT_THAT(work->identity().frames(), SizeIs(1));
  const farm::v1::Frame& frame = work->identity().frames(0);
  EXPECT_TRUE(frame.hidden());
  EXPECT_EQ(frame.panel(), 0u) << "its number among the identity frames";
  EXPECT_EQ(frame.id(), "identity/02020202020202020202020202020202/0");
  EXPECT_EQ(frame.prompt(), "ink, a person called B");
}

TEST(WorkFor, FramesCarryTheBanksOfTheirSetInOrderOfDefinition) {
  WorkInputs inputs;
  inputs.banks = {BankOf(1), BankOf(0)};
  const auto work = WorkFor(Job(), farm::v1::TASK_FRAME, {2}, MemoryPlan(), inputs);
  ASSERT_TRUE(work.ok()) << work.status();
  ASSERT_THAT(work->frames().banks(), SizeIs(2));
  EXPECT_EQ(work->frames().banks(0).character(), 0u);
  EXPECT_THAT(work->frames().frames(0).characters(), ElementsAre(0, 1));
}

TEST(WorkFor, APanelsOwnSeedAndSizeReachItsFrame) {
  WorkInputs inputs;
  inputs.banks = {BankOf(0)};
  const auto work = WorkFor(Job(), farm::v1::TASK_FRAME, {4}, MemoryPlan(), inputs);
  ASSERT_TRUE(work.ok()) << work.status();
  EXPECT_EQ(work->frames().frames(0).seed(), 99u);
  EXPECT_EQ(work->frames().frames(0).width(), 512u);
  EXPECT_EQ(work->frames().frames(0).height(), 1024u);
}

TEST(WorkFor, AMissingBankIsAPreconditionThatNamesTheCharacter) {
  WorkInputs inputs;
  inputs.banks = {BankOf(0)};
  const auto work = WorkFor(Job(), farm::v1::TASK_FRAME, {2}, MemoryPlan(), inputs);
  EXPECT_EQ(work.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(work.status().message()), HasSubstr("'B'"));
}

TEST(WorkFor, GroupsThatNoDeviceMayGetAreRefused) {
  const JobSpec job = Job();
  const auto code = [&](farm::v1::TaskKind kind, const std::vector<uint32_t>& numbers) {
    return WorkFor(job, kind, numbers, MemoryPlan(), {}).status().code();
  };
  EXPECT_EQ(code(farm::v1::TASK_FRAME, {0}), absl::StatusCode::kInvalidArgument) << "an identity task renders it";
  EXPECT_EQ(code(farm::v1::TASK_FRAME, {3, 4}), absl::StatusCode::kInvalidArgument) << "two frame sets";
  EXPECT_EQ(code(farm::v1::TASK_FRAME, {}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(farm::v1::TASK_FRAME, {77}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(farm::v1::TASK_IDENTITY, {2}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(farm::v1::TASK_IDENTITY, {0, 1}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(farm::v1::TASK_PAGE, {9}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(farm::v1::TASK_KIND_UNSPECIFIED, {0}), absl::StatusCode::kInvalidArgument);
}

TEST(WorkFor, APageShowsPicturesAndStandIns) {
  WorkInputs inputs;
  for (uint32_t p = 0; p < 3; ++p) inputs.images[p].set_size_bytes(p + 1);
  inputs.failures[3] = "not finite";
  const auto work = WorkFor(Job(), farm::v1::TASK_PAGE, {0}, MemoryPlan(), inputs);
  ASSERT_TRUE(work.ok()) << work.status();
  ASSERT_THAT(work->page().pages(), SizeIs(1));
  const farm::v1::Page& page = work->page().pages(0);
  EXPECT_EQ(page.chapter_title(), "The first");
  ASSERT_THAT(page.panels(), SizeIs(4));
  EXPECT_EQ(page.panels(2).image().size_bytes(), 3u);
  EXPECT_EQ(page.panels(2).caption(), "caption 2");
  EXPECT_FALSE(page.panels(3).has_image());
  EXPECT_EQ(page.panels(3).failure(), "not finite");
  EXPECT_FALSE(work->page().book());
}

TEST(WorkFor, TheBookHasEveryPageAndTheTitleStandsOnce) {
  WorkInputs inputs;
  for (uint32_t p = 0; p < 5; ++p) inputs.images[p].set_size_bytes(1);
  const auto work = WorkFor(Job(), farm::v1::TASK_PAGE, {2}, MemoryPlan(), inputs);
  ASSERT_TRUE(work.ok()) << work.status();
  EXPECT_TRUE(work->page().book());
  EXPECT_EQ(work->page().title(), "A book");
  ASSERT_THAT(work->page().pages(), SizeIs(2));
  EXPECT_EQ(work->page().pages(1).number(), 1u);
  EXPECT_EQ(work->page().pages(1).chapter_title(), "");
  EXPECT_EQ(work->page().pages(1).panels(0).width(), 512u);
}

TEST(WorkFor, APageWaitsForEveryPanel) {
  EXPECT_EQ(WorkFor(Job(), farm::v1::TASK_PAGE, {0}, MemoryPlan(), {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(ShapeOf, CountsWhatMemoryDependsOn) {
  const JobSpec job = Job();
  const auto identity = ShapeOf(job, farm::v1::TASK_IDENTITY, {0});
  ASSERT_TRUE(identity.ok());
  EXPECT_TRUE(identity->identity_pass());
  EXPECT_EQ(identity->frames(), 2u);
  EXPECT_EQ(identity->identity_frames(), 2u);
  EXPECT_TRUE(identity->decode());
  EXPECT_FALSE(ShapeOf(job, farm::v1::TASK_IDENTITY, {1})->decode()) << "hidden frames are never seen";
  const auto both = ShapeOf(job, farm::v1::TASK_FRAME, {2});
  ASSERT_TRUE(both.ok());
  EXPECT_EQ(both->identity_frames(), 3u) << "two of A, one hidden one of B";
  EXPECT_EQ(both->frames(), 1u);
  EXPECT_TRUE(both->guidance());
  EXPECT_EQ(ShapeOf(job, farm::v1::TASK_PAGE, {0})->frames(), 0u);
}

}  // namespace
}  // namespace storyfarm::plan
