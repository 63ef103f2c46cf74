#include "pipeline/page/layout.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace storyfarm::page {
namespace {

// Measures are drawn for a page of this width and scale with it.
constexpr double kDesignWidth = 1240;
constexpr double kCaptionLineHeight = 1.3;  // of the type's size
constexpr int kUsualCaptionLines = 2;
constexpr double kUsualHeading = 96;    // a chapter's title, in pixels of the design
constexpr double kHeadlessShare = 0.4;  // of a heading's room: free above the panels of a page without one
// A picture much higher than wide would make a row of several screens: its height ends here, in content widths.
constexpr double kMaxRowHeight = 1.5;
constexpr double kMinPictureEdge = 8;

struct Row {
  size_t first = 0;
  size_t count = 0;
  double height = 0;  // of its pictures
};

// The height at which pictures with these aspects, and as many of their mean as complete the row, fill the width.
double RowHeight(const PageMetrics& metrics, const PageShape& shape, size_t first, size_t count) {
  double width_per_height = 0;
  for (size_t i = first; i < first + count; ++i) width_per_height += 1 / shape.aspects[i];
  const double mean = width_per_height / static_cast<double>(count);
  width_per_height += mean * (shape.columns - static_cast<double>(count));
  const double pictures_width = metrics.content_width() - (shape.columns - 1) * metrics.gutter;
  return std::clamp(pictures_width / width_per_height, kMinPictureEdge, kMaxRowHeight * metrics.content_width());
}

// What a full page of this story has below its headings.
double UsualContent(const PageMetrics& metrics, const PageShape& shape, const std::vector<Row>& rows) {
  const double mean_row =
      std::accumulate(rows.begin(), rows.end(), 0.0, [](double sum, const Row& row) { return sum + row.height; }) /
      static_cast<double>(rows.size());
  const double captions = metrics.caption_gap + kUsualCaptionLines * kCaptionLineHeight * metrics.caption_size;
  return shape.rows * (mean_row + captions) + (shape.rows - 1) * metrics.row_gap;
}

}  // namespace

PageMetrics MetricsFor(double page_width, int columns) {
  const double unit = page_width / kDesignWidth;
  PageMetrics metrics;
  metrics.width = page_width;
  metrics.margin_side = std::round(72 * unit);
  metrics.margin_top = std::round(76 * unit);
  metrics.margin_bottom = std::round(104 * unit);
  metrics.gutter = std::round((columns <= 3 ? 30 : 20) * unit);
  metrics.row_gap = std::round(30 * unit);
  metrics.caption_gap = std::round(12 * unit);
  metrics.heading_gap = std::round(34 * unit);
  const double column = (metrics.content_width() - (columns - 1) * metrics.gutter) / columns;
  metrics.caption_size = std::clamp(column * 0.052, 15 * unit, 30 * unit);
  return metrics;
}

PageLayout LayoutPage(const PageMetrics& metrics, const PageShape& shape) {
  std::vector<Row> rows;
  const auto columns = static_cast<size_t>(shape.columns);
  for (size_t first = 0; first < shape.aspects.size(); first += columns) {
    const size_t count = std::min(columns, shape.aspects.size() - first);
    rows.push_back({first, count, RowHeight(metrics, shape, first, count)});
  }

  const double unit = metrics.width / kDesignWidth;
  PageLayout layout;
  layout.width = metrics.width;
  double y = metrics.margin_top;
  if (shape.heading_height > 0) {
    layout.heading = {metrics.margin_side, y, metrics.content_width(), shape.heading_height};
    y = layout.heading.bottom() + metrics.heading_gap;
  } else {
    y += kHeadlessShare * (kUsualHeading * unit + metrics.heading_gap);
  }
  for (const Row& row : rows) {
    if (row.first > 0) y += metrics.row_gap;
    double row_width = (static_cast<double>(row.count) - 1) * metrics.gutter;
    for (size_t i = row.first; i < row.first + row.count; ++i) row_width += row.height / shape.aspects[i];
    double x = metrics.margin_side + (metrics.content_width() - row_width) / 2;
    const double top = std::round(y);
    const double bottom = std::round(y + row.height);
    double captions_height = 0;
    for (size_t i = row.first; i < row.first + row.count; ++i) {
      const double exact_width = row.height / shape.aspects[i];
      PanelPlace place;
      place.picture.x = std::round(x);
      place.picture.y = top;
      place.picture.width = std::max(std::round(x + exact_width) - place.picture.x, kMinPictureEdge);
      place.picture.height = bottom - top;
      const double height = shape.caption_height(i, place.picture.width);
      place.caption = {place.picture.x, bottom + metrics.caption_gap, place.picture.width, height};
      captions_height = std::max(captions_height, height > 0 ? metrics.caption_gap + height : 0);
      layout.panels.push_back(place);
      x += exact_width + metrics.gutter;
    }
    y = bottom + captions_height;
  }
  layout.content_bottom = y;

  const double usual =
      metrics.margin_top + kUsualHeading * unit + metrics.heading_gap + UsualContent(metrics, shape, rows);
  layout.height = std::ceil(std::max(y, usual) + metrics.margin_bottom);
  layout.free_height = std::max(0.0, usual - y);
  layout.number_baseline = layout.height - metrics.margin_bottom * 0.42;
  return layout;
}

}  // namespace storyfarm::page
