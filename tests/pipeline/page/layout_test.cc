#include "pipeline/page/layout.h"

#include <gtest/gtest.h>

#include <cmath>

namespace storyfarm::page {
namespace {

PageShape Shape(int columns, int rows, std::vector<double> aspects, double caption = 0) {
  PageShape shape;
  shape.columns = columns;
  shape.rows = rows;
  shape.aspects = std::move(aspects);
  shape.caption_height = [caption](size_t, double) { return caption; };
  return shape;
}

TEST(Layout, EqualSquaresMakeAGridWithEqualGutters) {
  const PageMetrics metrics = MetricsFor(1240, 2);
  const PageLayout layout = LayoutPage(metrics, Shape(2, 2, {1, 1, 1, 1}));
  ASSERT_EQ(layout.panels.size(), 4U);
  const Rect& first = layout.panels[0].picture;
  EXPECT_EQ(first.x, 72);
  EXPECT_EQ(first.width, 533);  // (1240 - 2 * 72 - 30) / 2
  EXPECT_EQ(first.height, 533);
  EXPECT_EQ(layout.panels[1].picture.x - first.right(), 30);
  EXPECT_EQ(layout.panels[1].picture.right(), 1240 - 72);
  EXPECT_EQ(layout.panels[1].picture.y, first.y);
  EXPECT_EQ(layout.panels[2].picture.x, first.x);
  EXPECT_EQ(layout.panels[2].picture.y - first.bottom(), 30);
}

TEST(Layout, PicturesOfUnlikeShapesShareTheirRowsHeightAndFillTheWidth) {
  const PageMetrics metrics = MetricsFor(1240, 3);
  const PageLayout layout = LayoutPage(metrics, Shape(3, 1, {1, 0.5, 1.5}));
  const auto& panels = layout.panels;
  for (const PanelPlace& panel : panels) EXPECT_EQ(panel.picture.height, panels[0].picture.height);
  EXPECT_EQ(panels[0].picture.x, metrics.margin_side);
  EXPECT_EQ(panels[2].picture.right(), 1240 - metrics.margin_side);
  EXPECT_NEAR(panels[1].picture.height / panels[1].picture.width, 0.5, 0.01);
  EXPECT_NEAR(panels[2].picture.height / panels[2].picture.width, 1.5, 0.01);
}

TEST(Layout, ARowThatIsNotFullKeepsTheScaleAndStandsInTheMiddle) {
  const PageLayout layout = LayoutPage(MetricsFor(1240, 2), Shape(2, 2, {1, 1, 1}));
  const Rect& last = layout.panels[2].picture;
  EXPECT_EQ(last.width, layout.panels[0].picture.width);
  EXPECT_NEAR(last.x + last.width / 2, 620, 1);
}

TEST(Layout, ARowIsAsHighAsItsHighestCaption) {
  PageShape shape = Shape(2, 2, {1, 1, 1, 1});
  shape.caption_height = [](size_t panel, double) { return panel == 1 ? 90.0 : panel == 0 ? 30.0 : 0.0; };
  const PageMetrics metrics = MetricsFor(1240, 2);
  const PageLayout layout = LayoutPage(metrics, shape);
  const PanelPlace& second = layout.panels[1];
  EXPECT_EQ(second.caption.y, second.picture.bottom() + metrics.caption_gap);
  EXPECT_EQ(layout.panels[2].picture.y, second.caption.bottom() + metrics.row_gap);
  EXPECT_EQ(second.caption.width, second.picture.width);
}

TEST(Layout, PagesOfAStoryHaveOneHeightWhateverTheirHeadingAndTheirPanels) {
  const PageMetrics metrics = MetricsFor(1240, 2);
  PageShape full = Shape(2, 2, {1, 1, 1, 1}, 60);
  full.heading_height = 90;
  const PageLayout first = LayoutPage(metrics, full);
  const PageLayout short_page = LayoutPage(metrics, Shape(2, 2, {1}));
  const PageLayout plain = LayoutPage(metrics, Shape(2, 2, {1, 1, 1, 1}, 60));
  EXPECT_EQ(first.height, short_page.height);
  EXPECT_EQ(first.height, plain.height);
  EXPECT_GT(short_page.free_height, 500);
}

TEST(Layout, APageThatNeedsMoreIsHigherAndNothingLeavesIt) {
  const PageMetrics metrics = MetricsFor(1240, 2);
  const PageLayout usual = LayoutPage(metrics, Shape(2, 1, {1, 1}));
  const PageLayout high = LayoutPage(metrics, Shape(2, 1, {1, 1}, 2000));
  EXPECT_GT(high.height, usual.height + 1500);
  EXPECT_LE(high.panels[0].caption.bottom(), high.height - metrics.margin_bottom + 1);
  EXPECT_GT(high.number_baseline, high.panels[0].caption.bottom());
  EXPECT_EQ(high.free_height, 0);
}

TEST(Layout, ExtremeShapesStayOnThePage) {
  const PageMetrics metrics = MetricsFor(400, 6);
  const PageLayout layout = LayoutPage(metrics, Shape(6, 2, {512, 1.0 / 512, 1, 512, 1, 1, 512}));
  for (const PanelPlace& panel : layout.panels) {
    EXPECT_GE(panel.picture.width, 1);
    EXPECT_GE(panel.picture.height, 1);
    EXPECT_LE(panel.picture.height, 1.5 * metrics.content_width() + 1);
    EXPECT_EQ(panel.picture.x, std::round(panel.picture.x));
  }
}

TEST(Layout, EverythingScalesWithThePage) {
  const PageLayout small = LayoutPage(MetricsFor(620, 2), Shape(2, 2, {1, 1, 1, 1}));
  const PageLayout large = LayoutPage(MetricsFor(2480, 2), Shape(2, 2, {1, 1, 1, 1}));
  EXPECT_NEAR(large.height / small.height, 4, 0.05);
  EXPECT_NEAR(large.panels[3].picture.x / small.panels[3].picture.x, 4, 0.05);
}

}  // namespace
}  // namespace storyfarm::page
