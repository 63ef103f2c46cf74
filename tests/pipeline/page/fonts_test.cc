#include "pipeline/page/fonts.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include "tests/pipeline/page/fixture.h"

namespace storyfarm::page {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class FontsTest : public PageTest {};

TEST_F(FontsTest, LatinNeedsTheShippedFontsAlone) {
  auto choice = ChooseFonts({"“Wait!” cried Zoë — it’s 5 o’clock…", ""}, ShippedFonts());
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_THAT(choice->files, ElementsAreArray(ShippedFonts()));
  EXPECT_THAT(choice->missing, IsEmpty());
}

TEST_F(FontsTest, NoFontOfTheMachineReachesAPage) {
  EXPECT_EQ(fonts_->default_family(), "Comic Neue");
  EXPECT_FALSE(fonts_->HasFamily("DejaVu Sans"));
  EXPECT_EQ(fonts_->CountUnknownGlyphs("Hello"), 0);
  EXPECT_EQ(fonts_->CountUnknownGlyphs("晚安"), 2) << "the shipped font has no Chinese, and nothing else may help out";
}

TEST_F(FontsTest, ChineseIsReallyDrawnWhereTheSystemHasAFont) {
  const std::string text = "晚安，小猫。";
  auto choice = ChooseFonts({"Good night.", text}, ShippedFonts());
  ASSERT_TRUE(choice.ok()) << choice.status();
  if (!choice->missing.empty()) {
    GTEST_SKIP() << "this machine has no Chinese font; missing " << choice->missing.front();
  }
  EXPECT_THAT(choice->files, SizeIs(3)) << "one more file";
  auto fonts = Fonts::Load(choice->files);
  ASSERT_TRUE(fonts.ok()) << fonts.status();
  EXPECT_EQ((*fonts)->CountUnknownGlyphs(text), 0);
  Page page;
  page.panels = {Panel(0, text)};
  const auto drawn = ComposePng(page, {}, **fonts, env());
  const auto boxes = ComposePng(page, {}, *fonts_, env());
  ASSERT_TRUE(drawn.ok() && boxes.ok());
  EXPECT_NE(*drawn, *boxes);
  EXPECT_EQ(*drawn, *ComposePng(page, {}, **Fonts::Load(choice->files), env()));
}

TEST_F(FontsTest, CharactersThatNoFontHasAreNamed) {
  const std::string private_use = "\xF3\xB0\x80\x81";  // U+F0001
  auto choice = ChooseFonts({"a" + private_use}, ShippedFonts());
  ASSERT_TRUE(choice.ok());
  EXPECT_THAT(choice->missing, ElementsAreArray({private_use}));
}

TEST_F(FontsTest, FilesThatAreNoFontsAreNamed) {
  const auto message = [](const std::vector<std::string>& files) {
    return std::string(Fonts::Load(files).status().message());
  };
  EXPECT_THAT(message({red_}), HasSubstr("red.png is no font"));
  EXPECT_THAT(message({folder_ + "/none.otf"}), HasSubstr("none.otf cannot be read"));
  EXPECT_THAT(message({}), HasSubstr("at least one"));
  EXPECT_THAT(message(std::vector<std::string>(9, ShippedFonts()[0])), HasSubstr("at most 8"));
}

}  // namespace
}  // namespace storyfarm::page
