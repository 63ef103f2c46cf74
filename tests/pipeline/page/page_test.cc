#include "pipeline/page/page.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "pipeline/page/draw.h"
#include "pipeline/page/resample.h"
#include "tests/pipeline/page/fixture.h"
#include "tests/support/faulty_env.h"

namespace storyfarm::page {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class PageOutput : public PageTest {
 protected:
  Page FullPage() const {
    Page page;
    page.number = 2;
    page.title = "The Red Balloon";
    page.author = "Ada Brook";
    page.chapter_title = "One";
    page.panels = {Panel(0, "A caption that is long enough to be broken into more lines than a single one."), Panel(1),
                   Panel(2, "End.")};
    page.panels[1].image_path.clear();
    page.panels[1].failure = "out of memory on every machine";
    return page;
  }
  Picture Drawn(const Page& page, const PageStyle& style) const {
    auto png = ComposePng(page, style, *fonts_, env());
    EXPECT_TRUE(png.ok()) << png.status();
    return png.ok() ? *DecodePng(*png) : Picture{};
  }
  // Colour in the middle of a panel.
  std::string Middle(const Picture& picture, const Page& page, const PageStyle& style, size_t panel) const {
    const auto prepared = PreparedPage::Prepare(page, style, *fonts_);
    const Rect rect = (*prepared)->layout().panels[panel].picture;
    const auto x = static_cast<size_t>(rect.x + rect.width / 2);
    const auto y = static_cast<size_t>(rect.y + rect.height / 4);
    return picture.rgb.substr(3 * (y * picture.width + x), 3);
  }
};

TEST_F(PageOutput, PicturesStandWhereTheLayoutSaysAndStandInsAreMarked) {
  const Page page = FullPage();
  const Picture picture = Drawn(page, {});
  EXPECT_EQ(picture.width, 1240U);
  EXPECT_EQ(Middle(picture, page, {}, 0), std::string("\xC8\x1E\x1E"));
  EXPECT_NE(Middle(picture, page, {}, 1), std::string("\xC8\x1E\x1E"));
  Page other = page;
  other.panels[1].failure = "the machine went away";
  EXPECT_NE(Drawn(other, {}).rgb, picture.rgb) << "the reason is on the page";
}

TEST_F(PageOutput, PngPdfAndCbzAreTheSameBytesWheneverTheyAreMade) {
  const Book book{"The Red Balloon", "Ada & Co <x>", {FullPage()}};
  std::string first[3];
  for (int round = 0; round < 2; ++round) {
    auto fonts = Fonts::Load(ShippedFonts());
    ASSERT_TRUE(fonts.ok());
    const std::string pdf = folder_ + "/book.pdf";
    const std::string cbz = folder_ + "/book.cbz";
    ASSERT_TRUE(WritePdf(book, {}, **fonts, pdf, env()).ok());
    ASSERT_TRUE(WriteCbz(book, {}, **fonts, cbz, env()).ok());
    const std::string made[3] = {*ComposePng(book.pages[0], {}, **fonts, env()), *env().ReadFile(pdf),
                                 *env().ReadFile(cbz)};
    for (int i = 0; i < 3; ++i) {
      if (round == 0) first[i] = made[i];
      EXPECT_EQ(made[i], first[i]) << i;
    }
    // Dates in these files count seconds: the second round must fall into another one.
    const int64_t second = env().NowUnixMs() / 1000;
    while (round == 0 && env().NowUnixMs() / 1000 == second) std::this_thread::yield();
  }
  EXPECT_THAT(first[1], HasSubstr("/CreationDate (20000101000000Z)"));
  EXPECT_THAT(first[1], HasSubstr("ComicNeue"));
  EXPECT_THAT(first[2], HasSubstr("<Writer>Ada &amp; Co &lt;x&gt;</Writer>"));
  EXPECT_THAT(first[2], HasSubstr("00001.png"));
}

TEST_F(PageOutput, CaptionsInPicturesLeaveThePageShorterAndLongOnesGoUnder) {
  Page page;
  page.panels = {Panel(0, "Short."), Panel(1)};
  PageStyle in;
  in.caption = CaptionPlace::kIn;
  auto prepared = PreparedPage::Prepare(page, in, *fonts_);
  ASSERT_TRUE(prepared.ok());
  EXPECT_EQ((*prepared)->layout().panels[0].caption.height, 0);
  for (int i = 0; i < 60; ++i) page.panels[0].caption += " and on it goes";
  prepared = PreparedPage::Prepare(page, in, *fonts_);
  EXPECT_GT((*prepared)->layout().panels[0].caption.height, 100);
}

TEST_F(PageOutput, LongWordsAndLongTitlesStayInTheirPlaces) {
  Page page = FullPage();
  page.title = std::string(200, 'W');
  page.panels[0].caption = std::string(300, 'M');
  auto prepared = PreparedPage::Prepare(page, {}, *fonts_);
  ASSERT_TRUE(prepared.ok());
  EXPECT_LT((*prepared)->layout().heading.height, 600);
  const Picture picture = Drawn(page, {});
  for (size_t y = 0; y < picture.height; ++y) {
    ASSERT_EQ(picture.rgb.substr(3 * y * picture.width, 3), picture.rgb.substr(0, 3)) << "ink on the page's edge";
  }
}

TEST_F(PageOutput, WhatDoesNotFitIsRefusedWithAReason) {
  const auto message = [&](const Page& page, const PageStyle& style) {
    return std::string(ComposePng(page, style, *fonts_, env()).status().message());
  };
  Page page = FullPage();
  EXPECT_THAT(message(page, {.columns = 7}), HasSubstr("1 to 6 columns"));
  EXPECT_THAT(message(page, {.width = 100}), HasSubstr("400 to 6000 pixels"));
  EXPECT_THAT(message(page, {.columns = 1, .rows = 2}), HasSubstr("3 panels; 1 to 2 fit"));
  EXPECT_THAT(message(page, {.font_family = "Papyrus"}), HasSubstr("'Papyrus'"));
  EXPECT_THAT(message({}, {}), HasSubstr("0 panels"));
  page.panels[0].width = 0;
  EXPECT_THAT(message(page, {}), HasSubstr("panel 1"));
  page = FullPage();
  page.panels[0].image_path = folder_ + "/missing.png";
  EXPECT_EQ(ComposePng(page, {}, *fonts_, env()).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(env().WriteFileDurably(folder_ + "/bad.png", "no picture").ok());
  page.panels[0].image_path = folder_ + "/bad.png";
  EXPECT_THAT(message(page, {}), HasSubstr("panel 1"));
}

TEST_F(PageOutput, AFailedBookLeavesNoFile) {
  Book book{"t", "a", {FullPage()}};
  book.pages[0].panels[0].image_path = folder_ + "/missing.png";
  EXPECT_FALSE(WritePdf(book, {}, *fonts_, folder_ + "/b.pdf", env()).ok());
  EXPECT_FALSE(WriteCbz(book, {}, *fonts_, folder_ + "/b.cbz", env()).ok());
  EXPECT_FALSE(env().Exists(folder_ + "/b.pdf"));
  EXPECT_FALSE(env().Exists(folder_ + "/b.cbz"));
}

TEST_F(PageOutput, AFullDiskIsSaidWhereverInABookItIsMet) {
  testing_support::FaultyEnv faulty(env());
  const Book book{"t", "a", {FullPage(), FullPage()}};
  ASSERT_TRUE(WritePdf(book, {}, *fonts_, folder_ + "/whole.pdf", env()).ok());
  const uint64_t size = env().Stat(folder_ + "/whole.pdf")->size_bytes;
  for (const uint64_t room : {uint64_t{0}, size / 4, size / 2, size - 1}) {
    faulty.writable_bytes = room;
    const absl::Status written = WritePdf(book, {}, *fonts_, folder_ + "/b.pdf", faulty);
    EXPECT_EQ(written.code(), absl::StatusCode::kResourceExhausted) << room << ": " << written;
    EXPECT_THAT(std::string(written.message()), HasSubstr("disk is full"));
  }
}

TEST(Resample, KeepsFlatColoursEdgesAndMeans) {
  const Picture flat = Resample(Solid(5, 3, 12, 200, 77), 64, 40);
  EXPECT_EQ(flat.rgb, Solid(64, 40, 12, 200, 77).rgb);
  Picture halves = Solid(64, 1, 0, 0, 0);
  for (size_t i = 32 * 3; i < 64 * 3; ++i) halves.rgb[i] = '\xFF';
  const Picture larger = Resample(halves, 256, 4);
  EXPECT_EQ(larger.rgb.substr(0, 3), std::string(3, '\0'));
  EXPECT_EQ(larger.rgb.substr(255 * 3, 3), std::string(3, '\xFF'));
  const Picture one = Resample(halves, 1, 1);
  EXPECT_NEAR(static_cast<unsigned char>(one.rgb[0]), 128, 1);
}

}  // namespace
}  // namespace storyfarm::page
