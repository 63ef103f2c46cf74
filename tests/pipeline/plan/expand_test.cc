#include "pipeline/plan/expand.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/pipeline/plan/shapes.h"

namespace storyfarm::plan {
namespace {

using farm::v1::JobSpec;
using farm::v1::Story;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

JobSpec Expanded(const Story& story) {
  const Expansion expansion = ExpandStory(story, Manifest(SdxlProfile()));
  EXPECT_THAT(expansion.problems, IsEmpty());
  return expansion.job;
}

TEST(ExpandStory, TheFirstPanelsThatNameExactlyACharacterAreItsIdentityFrames) {
  Story story = StoryOf(2, {{0}, {0, 1}, {}, {0}, {0}, {1}});
  story.mutable_settings()->set_id_length(2);
  const JobSpec job = Expanded(story);
  ASSERT_THAT(job.identities(), SizeIs(2));
  EXPECT_EQ(job.identities(0).character(), 0u);
  EXPECT_THAT(job.identities(0).panels(), ElementsAre(0, 3));
  EXPECT_TRUE(job.identities(0).read_by_others());
  EXPECT_THAT(job.identities(1).panels(), ElementsAre(5)) << "fewer where there are fewer";
  EXPECT_THAT(job.identities(1).hidden_prompts(), IsEmpty());
  ASSERT_THAT(job.frame_sets(), SizeIs(3));
  EXPECT_THAT(job.frame_sets(0).identities(), ElementsAre(0, 1));
  EXPECT_THAT(job.frame_sets(0).panels(), ElementsAre(1));
  EXPECT_THAT(job.frame_sets(1).identities(), IsEmpty());
  EXPECT_THAT(job.frame_sets(1).panels(), ElementsAre(2));
  EXPECT_THAT(job.frame_sets(2).identities(), ElementsAre(0));
  EXPECT_THAT(job.frame_sets(2).panels(), ElementsAre(4));
}

TEST(ExpandStory, ACharacterThatIsNeverAloneGetsOneHiddenFrameOfItsDescription) {
  Story story = StoryOf(2, {{0, 1}, {0}});
  story.mutable_settings()->set_id_length(3);
  story.mutable_settings()->mutable_style()->set_prompt("ink drawing of {prompt}, detailed");
  const JobSpec job = Expanded(story);
  ASSERT_THAT(job.identities(), SizeIs(2));
  EXPECT_THAT(job.identities(1).panels(), IsEmpty());
  EXPECT_THAT(job.identities(1).hidden_prompts(), ElementsAre("ink drawing of a person called B, detailed"));
}

TEST(ExpandStory, IdentityPromptsOfItsOwnKeepPanelsOutOfTheWritePass) {
  Story story = StoryOf(1, {{0}, {0}});
  story.mutable_settings()->set_id_length(2);
  for (const char* prompt : {"A from the front", "A from the side", "A from behind"}) {
    story.mutable_characters(0)->add_identity_prompts(prompt);
  }
  const JobSpec job = Expanded(story);
  ASSERT_THAT(job.identities(), SizeIs(1));
  EXPECT_THAT(job.identities(0).panels(), IsEmpty());
  EXPECT_THAT(job.identities(0).hidden_prompts(), ElementsAre("A from the front", "A from the side"));
  ASSERT_THAT(job.frame_sets(), SizeIs(1));
  EXPECT_THAT(job.frame_sets(0).panels(), ElementsAre(0, 1));
}

TEST(ExpandStory, ACharacterThatNobodyReadsStillRendersItsPanels) {
  const JobSpec job = Expanded(StoryOf(1, {{0}}));
  ASSERT_THAT(job.identities(), SizeIs(1));
  EXPECT_THAT(job.identities(0).panels(), ElementsAre(0));
  EXPECT_FALSE(job.identities(0).read_by_others());
  EXPECT_THAT(job.frame_sets(), IsEmpty());
}

TEST(ExpandStory, ACharacterThatNoPanelNamesCostsNothing) {
  const JobSpec job = Expanded(StoryOf(2, {{0}}));
  ASSERT_THAT(job.identities(), SizeIs(1));
  EXPECT_EQ(job.identities(0).character(), 0u);
}

TEST(ExpandStory, APanelOfItsOwnSizeIsNoIdentityFrame) {
  Story story = StoryOf(1, {{0}, {0}});
  story.mutable_chapters(0)->mutable_panels(0)->set_width(512);
  const JobSpec job = Expanded(story);
  EXPECT_THAT(job.identities(0).panels(), ElementsAre(1));
  EXPECT_THAT(job.frame_sets(0).panels(), ElementsAre(0));
}

TEST(ExpandStory, WithoutConsistencyEveryPanelIsAPlainFrame) {
  Story story = StoryOf(2, {{0}, {0, 1}, {}});
  story.mutable_settings()->set_consistency(false);
  const JobSpec job = Expanded(story);
  EXPECT_THAT(job.identities(), IsEmpty());
  ASSERT_THAT(job.frame_sets(), SizeIs(1));
  EXPECT_THAT(job.frame_sets(0).identities(), IsEmpty());
  EXPECT_THAT(job.frame_sets(0).panels(), ElementsAre(0, 1, 2));
}

TEST(ExpandStory, PagesStartWithEachChapterAndTheBookComesLast) {
  Story story = StoryOf(0, {{}, {}, {}, {}, {}});
  *story.add_chapters() = story.chapters(0);
  story.mutable_page()->set_columns(2);
  story.mutable_page()->set_rows(1);
  const JobSpec job = Expanded(story);
  ASSERT_THAT(job.pages(), SizeIs(7));
  EXPECT_THAT(job.pages(0).panels(), ElementsAre(0, 1));
  EXPECT_THAT(job.pages(2).panels(), ElementsAre(4));
  EXPECT_EQ(job.pages(2).chapter(), 0u);
  EXPECT_THAT(job.pages(3).panels(), ElementsAre(5, 6));
  EXPECT_EQ(job.pages(3).chapter(), 1u);
  EXPECT_FALSE(job.pages(5).book());
  EXPECT_TRUE(job.pages(6).book());
  EXPECT_THAT(job.pages(6).panels(), SizeIs(10));
}

TEST(ExpandStory, EveryPanelIsRenderedExactlyOnceWhateverTheStory) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    const int characters = static_cast<int>(random() % 4);
    std::vector<std::vector<uint32_t>> panels(1 + random() % 12);
    for (std::vector<uint32_t>& panel : panels) {
      for (int c = 0; c < characters; ++c) {
        if (random() % 2 == 0) panel.push_back(static_cast<uint32_t>(c));
      }
    }
    Story story = StoryOf(characters, panels);
    story.mutable_settings()->set_id_length(1 + random() % 4);
    if (characters > 0 && random() % 3 == 0) story.mutable_characters(0)->add_identity_prompts("a portrait");
    const JobSpec job = Expanded(story);
    std::multiset<uint32_t> rendered;
    for (const auto& task : job.identities()) {
      rendered.insert(task.panels().begin(), task.panels().end());
      EXPECT_LE(task.panels_size() + task.hidden_prompts_size(), 4);
      EXPECT_GE(task.panels_size() + task.hidden_prompts_size(), 1);
    }
    for (const auto& set : job.frame_sets()) {
      rendered.insert(set.panels().begin(), set.panels().end());
      for (const uint32_t panel : set.panels()) {
        EXPECT_EQ(static_cast<size_t>(set.identities_size()), panels[panel].size()) << "a bank is missing";
      }
      for (const uint32_t identity : set.identities()) {
        EXPECT_TRUE(job.identities(static_cast<int>(identity)).read_by_others());
      }
    }
    ASSERT_EQ(rendered.size(), panels.size());
    EXPECT_EQ(std::set<uint32_t>(rendered.begin(), rendered.end()).size(), panels.size());
  }
}

TEST(ExpandStory, PanelsAreCountedThroughAllChapters) {
  Story story = StoryOf(1, {{0}, {}});
  story.add_chapters()->add_panels()->set_id("p-last");
  const JobSpec job = Expanded(story);
  EXPECT_EQ(PanelCount(job.story()), 3u);
  EXPECT_EQ(FindPanel(job.story(), 1)->id(), "p-1");
  EXPECT_EQ(FindPanel(job.story(), 2)->id(), "p-last");
  EXPECT_EQ(FindPanel(job.story(), 3), nullptr);
}

TEST(ExpandStory, AllThatDoesNotSuitTheModelIsReportedAtOnce) {
  Story story = StoryOf(1, {{0}, {}});
  story.mutable_settings()->set_width(100);
  story.mutable_characters(0)->set_pack("old");
  story.mutable_chapters(0)->mutable_panels(1)->set_height(70);
  story.mutable_chapters(0)->mutable_panels(1)->set_line(12);
  const Expansion expansion = ExpandStory(story, Manifest(SdxlProfile()));
  EXPECT_FALSE(expansion.ok());
  ASSERT_THAT(expansion.problems, SizeIs(3));
  EXPECT_EQ(expansion.problems[0].field(), "settings.width");
  EXPECT_EQ(expansion.problems[1].field(), "characters[0].pack");
  EXPECT_EQ(expansion.problems[2].field(), "chapters[0].panels[1].height");
  EXPECT_EQ(expansion.problems[2].line(), 12u);
  EXPECT_THAT(expansion.problems[2].message(), HasSubstr("64 and 96"));
}

TEST(StyledNegative, PrefixAndStoryAreJoinedOnceAndAbsenceStaysAbsent) {
  farm::v1::RenderSettings settings;
  std::string negative;
  EXPECT_FALSE(StyledNegative(settings, &negative));
  settings.mutable_style()->set_negative("photo");
  EXPECT_TRUE(StyledNegative(settings, &negative));
  EXPECT_EQ(negative, "photo");
  settings.set_negative_prompt("blurry");
  EXPECT_TRUE(StyledNegative(settings, &negative));
  EXPECT_EQ(negative, "photo blurry");
  settings.clear_style();
  settings.set_negative_prompt("");
  EXPECT_TRUE(StyledNegative(settings, &negative)) << "an empty text is encoded";
  EXPECT_EQ(negative, "");
}

}  // namespace
}  // namespace storyfarm::plan
