// Where everything on a page goes: numbers only, no drawing.
//
//   +-----------------------------+
//   |         Story title         |  on the story's first page
//   |        Chapter title        |  on a chapter's first page
//   |  +---------+   +---------+  |
//   |  |         |   |         |  |  a full row fills the width: its pictures have one height, unlike widths
//   |  +---------+   +---------+  |
//   |    caption       caption    |
//   |        +---------+          |
//   |        |         |          |  a row that is not full keeps the scale of a full one and stands in the middle
//   |        +---------+          |
//   |             - 3 -           |
//   +-----------------------------+
#ifndef STORYFARM_PIPELINE_PAGE_LAYOUT_H_
#define STORYFARM_PIPELINE_PAGE_LAYOUT_H_

#include <functional>
#include <vector>

namespace storyfarm::page {

// Pixels of the page, from its upper left corner. Those of pictures are whole numbers, so that frames are crisp.
struct Rect {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;

  double right() const { return x + width; }
  double bottom() const { return y + height; }
};

// Measures of a page, in pixels; all follow from its width (MetricsFor).
struct PageMetrics {
  double width = 0;
  double margin_side = 0;
  double margin_top = 0;
  double margin_bottom = 0;  // holds the page number
  double gutter = 0;         // between panels side by side
  double row_gap = 0;        // between a row, captions included, and the next
  double caption_gap = 0;    // between a picture and its caption
  double heading_gap = 0;    // below the headings
  double caption_size = 0;   // of captions' type
  double content_width() const { return width - 2 * margin_side; }
};

// Type and margins for a page this wide with so many columns: captions shrink with their columns, down to what can be
// read.
PageMetrics MetricsFor(double page_width, int columns);

// What the layout needs to know of a page.
struct PageShape {
  int columns = 1;
  int rows = 1;
  double heading_height = 0;    // titles; 0: none
  std::vector<double> aspects;  // height / width of each picture, above 0
  // Height of a panel's caption set in this width; 0: it has none below the picture.
  std::function<double(size_t panel, double width)> caption_height;
};

struct PanelPlace {
  Rect picture;
  Rect caption;  // below the picture; height 0: none
};

struct PageLayout {
  double width = 0;
  double height = 0;
  Rect heading;
  std::vector<PanelPlace> panels;
  double number_baseline = 0;  // of the page number, in the middle of the page
  double content_bottom = 0;   // end of the last row
  double free_height = 0;      // between there and where a full page's content ends
};

// Pages of one story have one height, that of a page with every row full of such pictures, headings and captions of two
// lines included; a page whose content needs more is as much higher.
PageLayout LayoutPage(const PageMetrics& metrics, const PageShape& shape);

}  // namespace storyfarm::page

#endif  // STORYFARM_PIPELINE_PAGE_LAYOUT_H_
