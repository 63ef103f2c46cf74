#include <gtest/gtest.h>

#include "tests/pipeline/story/problems.h"

namespace storyfarm::story {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;
using ::testing::SizeIs;

ParsedStory Parse(std::string_view text) { return ParseStory(text, "story.txt"); }

std::vector<std::string> Prompts(const farm::v1::Story& story) {
  std::vector<std::string> prompts;
  for (const auto& chapter : story.chapters()) {
    for (const auto& panel : chapter.panels()) prompts.push_back(panel.prompt());
  }
  return prompts;
}

TEST(LineForm, ReadsDefinitionsAndFramesWithOrWithoutABlankLineBetween) {
  for (const char* divider : {"", "\n", "---\n", "\n\n  \n"}) {
    const ParsedStory parsed = Parse(std::string("[Bo] a boy with a blue cap\n[Mia] a girl with red hair\n") + divider +
                                     "[Bo] reads a book #A quiet day\n[NC] a forest at night\n[Mia] waves at [Bo]\n");
    ASSERT_TRUE(parsed.ok()) << Printed(parsed.problems);
    EXPECT_THAT(parsed.problems, SizeIs(0)) << Printed(parsed.problems);
    ASSERT_EQ(parsed.story.characters_size(), 2);
    EXPECT_EQ(parsed.story.characters(0).name(), "Bo");
    EXPECT_EQ(parsed.story.characters(1).description(), "a girl with red hair");
    EXPECT_THAT(Prompts(parsed.story), ElementsAre("a boy with a blue cap reads a book", "a forest at night",
                                                   "a girl with red hair waves at a boy with a blue cap"));
    const auto& panels = parsed.story.chapters(0).panels();
    EXPECT_EQ(panels[0].caption(), "A quiet day");
    EXPECT_THAT(panels[0].characters(), ElementsAre(0U));
    EXPECT_THAT(panels[1].characters(), SizeIs(0));
    EXPECT_THAT(panels[2].characters(), ElementsAre(0U, 1U)) << "in order of definition, not of appearance";
  }
}

TEST(LineForm, TheCaptionStartsAtTheLastHashAndADefinitionEndsThere) {
  const ParsedStory parsed = Parse("[Bo] a boy #1 of the class # note\n[Bo] has the #1 shirt #He won! \n");
  ASSERT_TRUE(parsed.ok()) << Printed(parsed.problems);
  EXPECT_EQ(parsed.story.characters(0).description(), "a boy #1 of the class");
  EXPECT_EQ(parsed.story.chapters(0).panels(0).prompt(), "a boy #1 of the class has the #1 shirt");
  EXPECT_EQ(parsed.story.chapters(0).panels(0).caption(), "He won!");
}

TEST(LineForm, EveryOccurrenceOfANameIsReplacedByTheTextAndABlank) {
  const ParsedStory parsed = Parse("[Bo] a boy\n\n[Bo]'s friend sees [Bo],[Bo]\n");
  ASSERT_TRUE(parsed.ok()) << Printed(parsed.problems);
  EXPECT_THAT(Prompts(parsed.story), ElementsAre("a boy 's friend sees a boy ,a boy"));
}

TEST(LineForm, NcBesideANameIsWarnedOfAndChangesNothing) {
  const ParsedStory parsed = Parse("[Bo] a boy\n\n[NC] the forest, [Bo] far away\n");
  ASSERT_TRUE(parsed.ok());
  ASSERT_THAT(parsed.problems, ElementsAre(ProblemAt(3, 1, "line 3 has [NC] and names [Bo]")));
  EXPECT_TRUE(parsed.problems[0].warning());
  EXPECT_THAT(Prompts(parsed.story), ElementsAre("the forest, a boy far away"));
  EXPECT_THAT(parsed.story.chapters(0).panels(0).characters(), ElementsAre(0U));
}

TEST(LineForm, AFileWithoutChapterMarksIsOneChapter) {
  const ParsedStory parsed = Parse("[NC] a forest\n\n[NC] a city\n");
  ASSERT_TRUE(parsed.ok());
  ASSERT_EQ(parsed.story.chapters_size(), 1);
  EXPECT_EQ(parsed.story.chapters(0).title(), "");
  EXPECT_EQ(parsed.story.chapters(0).panels_size(), 2);
}

TEST(LineForm, LinesOfEqualSignsStartChapters) {
  const ParsedStory parsed = Parse("[Bo] a boy\n=== Monday ===\n[Bo] runs\n===Tuesday\n[Bo] sleeps\n[Bo] wakes\n");
  ASSERT_TRUE(parsed.ok()) << Printed(parsed.problems);
  ASSERT_EQ(parsed.story.chapters_size(), 2);
  EXPECT_EQ(parsed.story.chapters(0).title(), "Monday");
  EXPECT_EQ(parsed.story.chapters(1).title(), "Tuesday");
  EXPECT_EQ(parsed.story.chapters(1).panels_size(), 2);
}

TEST(LineForm, LineEndsOfAllKindsTabsAndAByteOrderMarkAreRead) {
  const ParsedStory parsed = Parse("\xEF\xBB\xBF[Bo]\ta\tboy\r\n\r\n\t[Bo] runs \t fast\r[NC]\ta city\n");
  ASSERT_TRUE(parsed.ok()) << Printed(parsed.problems);
  EXPECT_THAT(Prompts(parsed.story), ElementsAre("a boy runs fast", "a city"));
  EXPECT_EQ(parsed.story.chapters(0).panels(0).line(), 3U);
}

TEST(LineForm, UnknownCharactersAreAllReportedAtTheirPlacesWithTheNearestName) {
  const ParsedStory parsed = Parse("[Bo] a boy\n\n[Bo] waves at [Bob]\n[Zed] runs, [Zed] jumps\n");
  EXPECT_FALSE(parsed.ok());
  EXPECT_THAT(parsed.problems,
              ElementsAre(ProblemAt(3, 15, "did you mean '[Bo]'?"), ProblemAt(4, 1, "unknown character [Zed]")))
      << Printed(parsed.problems);
  EXPECT_EQ(parsed.problems[0].field(), "chapters[0].panels[0].text");
}

TEST(LineForm, ColumnsCountCharactersNotBytes) {
  const ParsedStory parsed = Parse("[Bo] a boy\n\n小女孩 [Li] runs\n");
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(3, 5, "unknown character [Li]"))) << Printed(parsed.problems);
}

TEST(LineForm, EmptyPromptsAreErrors) {
  const ParsedStory parsed = Parse("[Bo] a boy\n\n[Bo] runs\n#only a caption\n[NC] # nothing\n");
  EXPECT_THAT(parsed.problems, ElementsAre(ProblemAt(4, 1, "empty prompt"), ProblemAt(5, 1, "empty prompt")))
      << Printed(parsed.problems);
}

TEST(LineForm, ADefinitionWithoutTextIsAnError) {
  const ParsedStory parsed = Parse("[Bo]\n[Mia] a girl\n\n[Bo] and [Mia]\n");
  EXPECT_THAT(parsed.problems, ElementsAre(ProblemAt(1, 5, "has no description"))) << Printed(parsed.problems);
}

TEST(LineForm, OverLongLinesNameTheLimit) {
  const ParsedStory parsed = Parse("[NC] a forest\n[NC] " + std::string(5000, 'x') + "\n[NC]\n");
  EXPECT_THAT(parsed.problems, ElementsAre(ProblemAt(2, 1, "at most 4000"), ProblemAt(3, 1, "empty prompt")))
      << Printed(parsed.problems);
}

TEST(LineForm, TextThatIsNotUtf8IsReportedAtItsPlace) {
  // Latin-1, an overlong form, a surrogate, a sequence cut short.
  const ParsedStory parsed = Parse("[NC] caf\xE9\nab\xC0\xAF\n\xED\xA0\x80\n[NC] \xE5\xB0");
  EXPECT_FALSE(parsed.ok());
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(1, 9, "0xE9 is not UTF-8")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(2, 3, "0xC0")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(3, 1, "0xED")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(4, 6, "0xE5")));
}

TEST(LineForm, ControlCharactersAndUtf16AreRefused) {
  EXPECT_THAT(Parse(std::string_view("[NC] a\0b", 8)).problems, ElementsAre(ProblemAt(1, 7, "U+0000")));
  EXPECT_THAT(Parse(std::string_view("\xFF\xFE[\0N\0", 6)).problems, ElementsAre(ProblemAt(1, 1, "UTF-16")));
}

TEST(LineForm, AStoryWithoutPanelsSaysWhereTheyBelong) {
  EXPECT_THAT(Parse("").problems, ElementsAre(ProblemAt(0, 0, "no panels")));
  EXPECT_THAT(Parse("[Bo] a boy\n").problems, Contains(ProblemAt(0, 0, "panels follow the definitions")));
}

TEST(LineForm, TheTitleIsTheFilesName) {
  EXPECT_EQ(ParseStory("[NC] x", "/home/me/two-friends.txt").story.title(), "two friends");
}

TEST(LineForm, CharactersThatNobodyDrawsAreWarnedOf) {
  const ParsedStory parsed = Parse("[Bo] a boy\n[Mia] a girl\n\n[Bo] runs\n");
  EXPECT_TRUE(parsed.ok());
  EXPECT_THAT(parsed.problems, ElementsAre(ProblemAt(2, 2, "no panel names [Mia]")));
}

TEST(LineForm, BoundsHoldForCharactersAndPanels) {
  std::string many;
  for (int i = 0; i < 65; ++i) many += "[c" + std::to_string(i) + "] a boy number " + std::to_string(i) + "\n";
  EXPECT_THAT(Parse(many + "\n[c0] runs\n").problems, Contains(ProblemAt(65, 2, "at most 64")));
  std::string panels;
  for (int i = 0; i < 20'001; ++i) panels += "[NC] x\n";
  EXPECT_THAT(Parse(panels).problems, ElementsAre(ProblemAt(0, 0, "at most 20000")));
  EXPECT_THAT(Parse(std::string((size_t{4} << 20) + 1, 'x')).problems, ElementsAre(ProblemAt(0, 0, "4194304")));
}

TEST(LineForm, DescriptionsThatMultiplyAreStoppedBeforeTheyFillMemory) {
  std::string story = "[A] " + std::string(3900, 'x') + "\n\n";
  for (int i = 0; i < 10'000; ++i) story += "[A][A][A][A][A][A][A][A]\n";
  EXPECT_THAT(Parse(story).problems, Contains(ProblemAt(3, 1, "over 16000 bytes")));
  story = "[A] " + std::string(3900, 'x') + "\n\n";
  for (int i = 0; i < 10'000; ++i) story += "[A][A][A][A]\n";
  const ParsedStory parsed = Parse(story);
  EXPECT_FALSE(parsed.ok());
  EXPECT_LT(parsed.story.ByteSizeLong(), size_t{20} << 20);
}

TEST(LineForm, ProblemsBeyondTheBoundAreCounted) {
  std::string story = "[A] a boy\n\n[A] runs\n";
  for (int i = 0; i < 1000; ++i) story += "[NC]\n";
  const ParsedStory parsed = Parse(story);
  ASSERT_THAT(parsed.problems, SizeIs(kMaxProblems + 1));
  EXPECT_EQ(parsed.problems.back().message(), "and 800 more; the first 200 are listed");
}

}  // namespace
}  // namespace storyfarm::story
