// What keys random draws: panel ids and character keys.
#include <gtest/gtest.h>

#include <map>

#include "tests/pipeline/story/problems.h"

namespace storyfarm::story {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::StartsWith;

std::vector<std::string> Ids(const ParsedStory& parsed) {
  std::vector<std::string> ids;
  for (const auto& chapter : parsed.story.chapters()) {
    for (const auto& panel : chapter.panels()) ids.push_back(panel.id());
  }
  return ids;
}

TEST(PanelId, ReorderingPanelsAndChaptersChangesNoId) {
  const auto first = Ids(ParseStory("[Bo] a boy\n\n[Bo] runs\n[NC] a city\n[Bo] sleeps\n", "a.txt"));
  const auto second = Ids(ParseStory("[Bo] a boy\n\n[Bo] sleeps\n=== Two ===\n[Bo] runs\n[NC] a city\n", "b.txt"));
  EXPECT_THAT(second, ElementsAre(first[2], first[0], first[1]));
  EXPECT_THAT(first[0], testing::MatchesRegex("p-[0-9a-f]{16}"));
}

TEST(PanelId, BothFormsAndAnyWhiteSpaceGiveOneId) {
  const auto line = Ids(ParseStory("[Bo] a boy\n\n[Bo]  runs   fast #He's late\n", "a.txt"));
  const auto yaml =
      Ids(ParseStory("characters: {Bo: a tall boy}\npanels:\n- text: >\n    [Bo] runs\n    fast\n", "a.yaml"));
  EXPECT_EQ(line, yaml) << "captions and descriptions are no part of it";
}

TEST(PanelId, EqualPanelsAreCounted) {
  const auto ids = Ids(ParseStory("[NC] x\n[NC] y\n[NC] x\n[NC] x\n", "a.txt"));
  EXPECT_EQ(ids[2], ids[0] + "-2");
  EXPECT_EQ(ids[3], ids[0] + "-3");
  EXPECT_NE(ids[1], ids[0]);
}

TEST(PanelId, TheAuthorsOwnIdsMustBeUniqueAndPlain) {
  const ParsedStory parsed =
      ParseStory("panels:\n- {text: x, id: a}\n- {text: y, id: a}\n- {text: z, id: 'a/b'}\n", "a.yaml");
  EXPECT_THAT(parsed.problems,
              ElementsAre(ProblemAt(3, 17, "line 2 has the id 'a', too"), ProblemAt(4, 17, "an id holds")))
      << Printed(parsed.problems);
}

TEST(PanelId, ADerivedIdGivesWayToTheAuthors) {
  const std::string derived = Ids(ParseStory("[NC] x\n", "a.txt"))[0];
  const auto ids = Ids(ParseStory("panels:\n- {text: y, id: " + derived + "}\n- '[NC] x'\n", "a.yaml"));
  EXPECT_THAT(ids, ElementsAre(derived, derived + "-2"));
}

TEST(CharacterKey, FollowsTheDefinitionNotTheNameNorTheOrder) {
  const auto keys = [](const std::string& text) {
    const ParsedStory parsed = ParseStory(text, "a.txt");
    std::map<std::string, std::string> by_description;
    for (const auto& character : parsed.story.characters()) by_description[character.description()] = character.key();
    return by_description;
  };
  const auto first = keys("[Bo] a boy\n[Mia] a girl\n\n[Bo] [Mia]\n");
  EXPECT_EQ(first, keys("[Anna]  a  girl\n[Ben] a boy\n\n[Anna] [Ben]\n"));
  EXPECT_NE(first.at("a boy"), first.at("a girl"));
  EXPECT_EQ(first.at("a boy").size(), 16U);
}

TEST(CharacterKey, IdentityPromptsArePartOfIt) {
  const auto key = [](const std::string& yaml) {
    return ParseStory("characters: {Bo: " + yaml + "}\npanels: ['[Bo]']\n", "a.yaml").story.characters(0).key();
  };
  EXPECT_EQ(key("a boy"), key("{description: a boy, pack: p}"));
  EXPECT_NE(key("a boy"), key("{description: a boy, identity: a boy standing}"));
  EXPECT_NE(key("{description: a boy, identity: [x, y]}"), key("{description: a boy, identity: [xy]}"));
}

TEST(CharacterKey, TwinsAreWarnedOfAndKeepKeysOfTheirOwn) {
  const ParsedStory parsed = ParseStory("[A] a boy\n[B] a boy\n\n[A] and [B]\n", "a.txt");
  EXPECT_TRUE(parsed.ok());
  EXPECT_THAT(parsed.problems, ElementsAre(ProblemAt(2, 2, "look alike")));
  EXPECT_NE(parsed.story.characters(0).key(), parsed.story.characters(1).key());
}

TEST(Character, DescriptionsAndIdentityPromptsCannotNameOthers) {
  const ParsedStory parsed = ParseStory(
      "characters:\n  Bo: a boy like [Mia]\n  Mia: {description: a girl, identity: '[Mia] with [Bo]'}\npanels: ['[Bo] "
      "[Mia]']\n",
      "a.yaml");
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(2, 18, "cannot name [Mia]"))) << Printed(parsed.problems);
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(3, 52, "[Mia] alone; [Bo] cannot stand here")));
}

}  // namespace
}  // namespace storyfarm::story
