// The stories that a newcomer sees first.
#include <gtest/gtest.h>

#include <set>

#include "pipeline/base/env.h"
#include "tests/pipeline/story/problems.h"

namespace storyfarm::story {
namespace {

ParsedStory ParseExample(const std::string& name) {
  const std::string path = std::string(STORYFARM_SOURCE_DIR) + "/deploy/examples/stories/" + name;
  auto bytes = base::Env::Real().ReadFile(path);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return ParseStory(bytes.ok() ? *bytes : "", path);
}

TEST(Examples, TheDemoShowsWhatAStoryCanDo) {
  const ParsedStory parsed = ParseExample("demo.yaml");
  EXPECT_THAT(parsed.problems, testing::IsEmpty()) << Printed(parsed.problems);
  EXPECT_EQ(parsed.story.chapters_size(), 3);
  EXPECT_EQ(parsed.story.characters_size(), 2);
  EXPECT_TRUE(parsed.story.settings().reproducible());
  int panels = 0;
  bool chinese = false;
  std::set<int> characters_in_a_panel;
  for (const auto& chapter : parsed.story.chapters()) {
    for (const auto& panel : chapter.panels()) {
      ++panels;
      characters_in_a_panel.insert(panel.characters_size());
      chinese = chinese || panel.caption().find("晚安") != std::string::npos;
    }
  }
  EXPECT_GE(panels, 12);
  EXPECT_EQ(characters_in_a_panel, (std::set<int>{0, 1, 2}));
  EXPECT_TRUE(chinese);
}

TEST(Examples, TheLineFormExampleIsReadWithoutAProblem) {
  const ParsedStory parsed = ParseExample("the-brave-robot.txt");
  EXPECT_THAT(parsed.problems, testing::IsEmpty()) << Printed(parsed.problems);
  EXPECT_EQ(parsed.story.title(), "the brave robot");
  EXPECT_EQ(parsed.story.chapters_size(), 2);
}

}  // namespace
}  // namespace storyfarm::story
