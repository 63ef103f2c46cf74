#include <gtest/gtest.h>

#include <ctime>

#include "tests/pipeline/story/problems.h"

namespace storyfarm::story {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::SizeIs;

ParsedStory Parse(std::string_view text) { return ParseStory(text, "story.yaml"); }

TEST(YamlForm, ReadsAWholeStory) {
  const ParsedStory parsed = Parse(R"(
title: The Red Kite
author: A. N. Author
model: demo
characters:
  Mia: a girl with red hair
  Rex:
    description: a dog with a party hat
    identity_prompts:
      - "[Rex] standing in a room"
      - a dog with a party hat, sleeping
    pack: rex-v1
chapters:
  - title: Morning
    panels:
      - "[Mia] standing in the forest #What a day."
      - text: "[Rex] running on the beach, [Mia] far away"
        caption: "Wait, #1!"
        seed: 18446744073709551615
        size: 256x128
        id: chase
  - title: 晚上
    panels:
      - text: "[NC] the mountains at night"
        width: 192
settings:
  steps: 20
  reproducible: true
page: {columns: 2, rows: 3, caption: in, width: 1000, font_family: Comic Neue}
)");
  ASSERT_THAT(parsed.problems, SizeIs(0)) << Printed(parsed.problems);
  const farm::v1::Story& story = parsed.story;
  EXPECT_EQ(story.title(), "The Red Kite");
  EXPECT_EQ(story.author(), "A. N. Author");
  EXPECT_EQ(story.model(), "demo");
  ASSERT_EQ(story.characters_size(), 2);
  EXPECT_EQ(story.characters(0).line(), 6U);
  EXPECT_THAT(story.characters(1).identity_prompts(),
              ElementsAre("a dog with a party hat standing in a room", "a dog with a party hat, sleeping"));
  EXPECT_EQ(story.characters(1).pack(), "rex-v1");
  ASSERT_EQ(story.chapters_size(), 2);
  const auto& chase = story.chapters(0).panels(1);
  EXPECT_EQ(chase.prompt(), "a dog with a party hat running on the beach, a girl with red hair far away");
  EXPECT_EQ(chase.caption(), "Wait, #1!");
  EXPECT_EQ(chase.id(), "chase");
  EXPECT_EQ(chase.seed(), UINT64_MAX);
  EXPECT_EQ(chase.width(), 256U);
  EXPECT_EQ(chase.height(), 128U);
  EXPECT_EQ(story.chapters(0).panels(0).caption(), "What a day.");
  EXPECT_FALSE(story.chapters(0).panels(0).has_seed());
  EXPECT_EQ(story.chapters(1).title(), "晚上");
  EXPECT_EQ(story.chapters(1).panels(0).width(), 192U);
  EXPECT_FALSE(story.chapters(1).panels(0).has_height());
  EXPECT_EQ(story.settings().steps(), 20U);
  EXPECT_FALSE(story.settings().has_guidance_scale());
  EXPECT_EQ(story.page().columns(), 2U);
  EXPECT_EQ(story.page().caption(), farm::v1::CAPTION_IN);
}

TEST(YamlForm, ACaptionKeepsItsLineEndsAndAPromptDoesNot) {
  const auto parsed = Parse(R"(
panels:
  - text: |
      a bear
      at night
    caption: "小熊还没睡。 \n\n  Bear was  still up.\n"
  - text: a bear
    caption: |
      晚安。
      Good night.
)");
  ASSERT_THAT(parsed.problems, SizeIs(0)) << Printed(parsed.problems);
  const auto& panels = parsed.story.chapters(0).panels();
  EXPECT_EQ(panels[0].prompt(), "a bear at night");
  EXPECT_EQ(panels[0].caption(), "小熊还没睡。\nBear was still up.");
  EXPECT_EQ(panels[1].caption(), "晚安。\nGood night.");
}

TEST(YamlForm, PanelsWithoutChaptersAreOneChapterAndCharactersMayBeAList) {
  const ParsedStory parsed = Parse("characters:\n- {name: Bo, description: a boy}\npanels: ['[Bo] runs']\n");
  ASSERT_TRUE(parsed.ok()) << Printed(parsed.problems);
  EXPECT_EQ(parsed.story.chapters(0).panels(0).prompt(), "a boy runs");
  EXPECT_EQ(parsed.story.title(), "story");
}

TEST(YamlForm, ReportsAllErrorsAtOnceWithLineColumnAndField) {
  const ParsedStory parsed = Parse(R"(titel: Kites
characters:
  Bo: [a, boy]
  Mia: a girl
  Mia: another girl
chapters:
  - title: One
    panels:
      - "[Zed] runs"
      - {text: "[Mia] waves", seed: soon, steps: 3}
      - 17.5: x
      - text:
  - panels: {}
settings:
  steps: 0
  scheduler: eulr
)");
  EXPECT_FALSE(parsed.ok());
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(1, 1, "did you mean 'title'?"))) << Printed(parsed.problems);
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(3, 7, "must be a text, not a list")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(5, 3, "another character 'Mia' in line 4")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(9, 10, "unknown character [Zed]")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(10, 37, "whole number from 0 to 18446744073709551615, not 'soon'")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(10, 43, "put it under 'settings'")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(11, 9, "is no key that is known here")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(12, 9, "empty prompt")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(13, 13, "must be a list of panels")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(15, 10, "whole number from 1 to 1000, not '0'")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(16, 14, "did you mean 'euler'?")));
  for (const auto& problem : parsed.problems) EXPECT_EQ(problem.file(), "story.yaml");
  for (size_t i = 1; i < parsed.problems.size(); ++i) {
    EXPECT_LE(parsed.problems[i - 1].line(), parsed.problems[i].line()) << "in the order of the file";
  }
}

TEST(YamlForm, FieldsNameTheWayToTheValue) {
  const ParsedStory parsed =
      Parse("chapters:\n- panels:\n  - x\n  - {text: y, seed: -1}\nsettings: {gate: {before: 2}}\n");
  ASSERT_THAT(parsed.problems, SizeIs(2)) << Printed(parsed.problems);
  EXPECT_EQ(parsed.problems[0].field(), "chapters[0].panels[1].seed");
  EXPECT_EQ(parsed.problems[1].field(), "settings.gate.before");
}

TEST(YamlForm, UnquotedBracketsAndLostCaptionsAreExplained) {
  EXPECT_THAT(Parse("panels:\n  - [Bo] reads #Quiet\n").problems,
              ElementsAre(ProblemAt(2, 10, "must stand in quotes")));
  const ParsedStory lost = Parse("panels:\n  - a forest #Quiet\n");
  EXPECT_TRUE(lost.ok());
  EXPECT_THAT(lost.problems, ElementsAre(ProblemAt(2, 14, "is a comment in YAML")));
}

TEST(YamlForm, KeysGivenTwiceAreErrorsNotTheLastOneWins) {
  EXPECT_THAT(Parse("title: a\ntitle: b\npanels: [x]\n").problems,
              ElementsAre(ProblemAt(2, 1, "also stands in line 1")));
}

TEST(YamlForm, NumbersInQuotesAreTextsAndTextsThatLookLikeNumbersAreTexts) {
  EXPECT_THAT(Parse("panels: [x]\nsettings: {steps: '20'}\n").problems,
              ElementsAre(ProblemAt(2, 19, "leave the quotes out")));
  EXPECT_EQ(Parse("title: 1984\npanels: [x]\n").story.title(), "1984");
}

TEST(YamlForm, NamesHaveBoundsWithReasons) {
  const ParsedStory parsed =
      Parse("characters:\n  NC: a\n  'a]': b\n  ' x': c\n  " + std::string(65, 'n') + ": d\npanels: [p]\n");
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(2, 3, "[NC] marks panels without a character")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(3, 3, "no brackets")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(4, 3, "blank")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(5, 3, "at most 64")));
}

TEST(YamlForm, AliasesMayBeUsedButNotMultiplied) {
  EXPECT_TRUE(Parse("panels:\n- &a a forest\n- *a\n").ok());
  std::string laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    laughs += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) laughs += (j > 0 ? ", *a" : "*a") + std::to_string(i - 1);
    laughs += "]\n";
  }
  const ParsedStory parsed = Parse(laughs);
  ASSERT_THAT(parsed.problems, SizeIs(1)) << Printed(parsed.problems);
  EXPECT_THAT(parsed.problems[0].message(), testing::HasSubstr("more than 400000 values"));
  EXPECT_THAT(Parse("a: &a [*a]\n").problems, SizeIs(1));
  std::string many = "panels:\n- &a x\n";
  for (int i = 0; i < 300; ++i) many += "- *a\n";
  EXPECT_THAT(Parse(many).problems, ElementsAre(ProblemAt(203, 3, "more than 200 aliases")));
}

TEST(YamlForm, DepthTagsAndSecondDocumentsAreRefused) {
  EXPECT_THAT(Parse(std::string(100, '[') + std::string(100, ']')).problems,
              ElementsAre(ProblemAt(1, 33, "more than 32 deep")));
  EXPECT_THAT(Parse(std::string(1'000'000, '[')).problems, SizeIs(1));
  EXPECT_THAT(Parse("panels: !!python/object:os.system [x]\n").problems, Contains(ProblemAt(1, 9, "remove it")));
  EXPECT_THAT(Parse("panels: [x]\n---\npanels: [y]\n").problems, SizeIs(1));
  EXPECT_TRUE(Parse("---\npanels: [x]\n...\n").ok());
}

TEST(YamlForm, WhatIsNoMapIsRefusedOnce) {
  for (const char* text : {"just a text", "- a\n- b\n"}) {
    EXPECT_THAT(Parse(text).problems, ElementsAre(ProblemAt(1, 1, "must be a map"))) << text;
  }
  EXPECT_THAT(Parse("").problems, ElementsAre(ProblemAt(0, 0, "no panels")));
}

TEST(YamlForm, JsonStoriesAreReadWithItsEscapes) {
  const ParsedStory parsed = ParseStory(
      R"({"title": "caf\u00e9 \ud83d\ude00", "panels": [{"text": "a\tforest", "caption": "\u4f60\u597d"}]})", "s.json");
  ASSERT_TRUE(parsed.ok()) << Printed(parsed.problems);
  EXPECT_EQ(parsed.story.title(), "café 😀");
  EXPECT_EQ(parsed.story.chapters(0).panels(0).caption(), "你好");
}

TEST(YamlForm, HostileInputsEndInTime) {
  const std::clock_t started = std::clock();
  std::vector<std::string> inputs;
  std::string one_line = "{panels: [";
  while (one_line.size() < 1'000'000) one_line += "'[x] a', ";
  inputs.push_back(one_line + "]}");
  std::string question;
  while (question.size() < 100'000) question += "? ";
  inputs.push_back(question);
  inputs.push_back("panels: \"" + std::string(1'000'000, 'x'));
  inputs.push_back("panels: [" + std::string(1'000'000, ','));
  inputs.push_back(std::string(200'000, '\n') + "a: [");
  for (const std::string& input : inputs) {
    const ParsedStory parsed = Parse(input);
    EXPECT_FALSE(parsed.ok());
    EXPECT_LE(parsed.problems.size(), kMaxProblems + 1);
  }
  // Seconds of any processor, however busy it is otherwise; a quadratic reader takes minutes.
  EXPECT_LT((std::clock() - started) / CLOCKS_PER_SEC, 30);
}

}  // namespace
}  // namespace storyfarm::story
