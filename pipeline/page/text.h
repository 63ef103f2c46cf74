// A paragraph set in a width: measured, then drawn.
#ifndef STORYFARM_PIPELINE_PAGE_TEXT_H_
#define STORYFARM_PIPELINE_PAGE_TEXT_H_

#include <cairo.h>

#include <string>

#include "pipeline/page/font_map.h"

namespace storyfarm::page {

struct Color {
  double red = 0;
  double green = 0;
  double blue = 0;
};

struct TextStyle {
  std::string family;
  double size = 0;  // pixels
  bool bold = false;
  Color color;
  int max_lines = 0;  // the last one ends in an ellipsis; 0: as many as it takes
};

// Lines are broken between words, or inside one that is wider than the paragraph, and made even: among all ways to
// break the text into as few lines as possible, the one with the narrowest longest line. Centred.
class Paragraph {
 public:
  Paragraph(const Fonts& fonts, const TextStyle& style, const std::string& text, double width);

  double width() const { return width_; }          // as asked for
  double height() const { return height_; }        // of all lines
  double ink_width() const { return ink_width_; }  // of the longest line

  // With its upper left corner there.
  void Draw(cairo_t* cairo, double x, double y) const;

 private:
  void Balance();

  GObjectPtr<PangoContext> context_;
  GObjectPtr<PangoLayout> layout_;
  Color color_;
  double width_ = 0;
  double height_ = 0;
  double ink_width_ = 0;
  double set_width_ = 0;  // after Balance
};

}  // namespace storyfarm::page

#endif  // STORYFARM_PIPELINE_PAGE_TEXT_H_
