// Which texts of a story become prompts, and where a word of them stands in the author's files.
#include "pipeline/story/prompt_texts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/pipeline/story/problems.h"

namespace storyfarm::story {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// The warning about the first `word` in the texts.
farm::v1::Problem WarningOf(const PromptTexts& texts, const std::string& word, const std::string& nearest = "") {
  for (size_t i = 0; i < texts.texts().size(); ++i) {
    const size_t byte = texts.texts()[i].find(word);
    if (byte != std::string::npos) return texts.UnknownWord(i, byte, word.size(), nearest);
  }
  ADD_FAILURE() << "no text has " << word;
  return {};
}

PromptTexts OfYaml(const std::string& story, const std::string& settings = "") {
  return PromptTexts(story, "story.yaml", settings, "settings.json");
}

constexpr char kStory[] =
    "characters:\n"
    "  Mia: a girl with red hair\n"
    "  Rex:\n"
    "    description: >\n"
    "      a dog\n"
    "      with a party hat\n"
    "    identity_prompts: [\"[Rex] standing\"]\n"
    "  Ann: never seen\n"
    "panels:\n"
    "  - \"[Mia] flies #A caption.\"\n"
    "  - {text: \"[Rex] and [Mia] \\\"sing\\\" loudly\", caption: Another}\n"
    "  - \"[NC] 一棵树\"\n"
    "settings:\n"
    "  style: ink drawing of {prompt}\n"
    "  negative_prompt: blurry\n";

TEST(PromptTexts, AreWhatBecomesAPromptWithTheNamesBlank) {
  EXPECT_THAT(OfYaml(kStory).texts(),
              ElementsAre("a girl with red hair", "a dog with a party hat\n", "      standing", "      flies",
                          "      and       \"sing\" loudly", "     一棵树", "ink drawing of         ", "blurry"));
}

TEST(PromptTexts, AWordIsShownWhereItStands) {
  const PromptTexts texts = OfYaml(kStory);
  EXPECT_THAT(WarningOf(texts, "hair"), ProblemAt(2, 24, "the description of [Mia] says 'hair'"));
  EXPECT_THAT(WarningOf(texts, "party"), ProblemAt(6, 14, "the description of [Rex] says 'party'"));
  EXPECT_THAT(WarningOf(texts, "standing"), ProblemAt(7, 31, "an identity prompt of [Rex] says"));
  EXPECT_THAT(WarningOf(texts, "flies"), ProblemAt(10, 12, "panel 0 says 'flies'"));
  EXPECT_THAT(WarningOf(texts, "loudly"), ProblemAt(11, 38, "panel 1 says 'loudly'")) << "behind escapes";
  EXPECT_THAT(WarningOf(texts, "一棵树"), ProblemAt(12, 11, "panel 2 says '一棵树'"));
  EXPECT_THAT(WarningOf(texts, "ink"), ProblemAt(14, 10, "the style says 'ink'"));
  EXPECT_THAT(WarningOf(texts, "blurry"), ProblemAt(15, 20, "the negative prompt says 'blurry'"));
}

TEST(PromptTexts, AWordIsAWarningThatNamesTheNearestWord) {
  EXPECT_EQ(FormatProblem(WarningOf(OfYaml(kStory), "flies", "fly")),
            "story.yaml:10:12: warning: panels[0]: panel 0 says 'flies', which this model was not taught "
            "(did you mean 'fly'?)");
  const farm::v1::Problem more = OfYaml(kStory).MoreUnknownWords(7);
  EXPECT_TRUE(more.warning());
  EXPECT_THAT(more.message(), HasSubstr("and 7 more"));
}

TEST(PromptTexts, AWordInAFoldedTextIsNotTakenForAPartOfAnother) {
  const PromptTexts texts = OfYaml("panels:\n  - text: >\n      a scarf\n      and a car\n");
  EXPECT_THAT(texts.UnknownWord(0, texts.texts()[0].rfind("car"), 3, ""), ProblemAt(4, 13, "'car'"));
}

TEST(PromptTexts, SettingsOverTheStorysReplaceItsTexts) {
  const PromptTexts texts = OfYaml(kStory, "{\"negative_prompt\": \"ugly\",\n \"style\": {\"negative\": \"noise\"}}");
  EXPECT_THAT(texts.texts(), testing::Not(testing::Contains("blurry")));
  const farm::v1::Problem ugly = WarningOf(texts, "ugly");
  EXPECT_EQ(ugly.file(), "settings.json");
  EXPECT_THAT(ugly, ProblemAt(1, 22, "the negative prompt says 'ugly'"));
  EXPECT_THAT(WarningOf(texts, "noise"), ProblemAt(2, 25, "the style's negative says 'noise'"));
  EXPECT_EQ(WarningOf(texts, "hair").file(), "story.yaml");
  const PromptTexts none = OfYaml(kStory, "{\"negative_prompt\": null, \"style\": null}");
  EXPECT_EQ(none.texts().size(), 6u) << "null takes a text away";
}

TEST(PromptTexts, NegativePromptsCountOnlyWithGuidance) {
  EXPECT_THAT(OfYaml(kStory, "guidance_scale: 1").texts(), testing::Not(testing::Contains("blurry")));
  EXPECT_THAT(OfYaml(kStory, "guidance_scale: 1.5").texts(), testing::Contains("blurry"));
}

TEST(PromptTexts, LinesHaveThemToo) {
  const PromptTexts texts("[Mia] a girl #no text\n[Bo] unseen\n\n=== Monday ===\n[Mia] flies #Up!\n[NC] a city\n",
                          "story.txt", "", "");
  EXPECT_THAT(texts.texts(), ElementsAre("a girl", "      flies", "     a city"));
  EXPECT_THAT(WarningOf(texts, "girl"), ProblemAt(1, 9, "the description of [Mia]"));
  EXPECT_THAT(WarningOf(texts, "city"), ProblemAt(6, 8, "panel 1"));
}

TEST(PromptTexts, AFileThatIsNoStoryHasNone) {
  EXPECT_THAT(OfYaml("panels: [").texts(), IsEmpty());
  EXPECT_THAT(OfYaml("\xFF").texts(), IsEmpty());
}

}  // namespace
}  // namespace storyfarm::story
