#include "pipeline/page/text.h"

#include <algorithm>
#include <cmath>

namespace storyfarm::page {
namespace {

constexpr double kLineHeight = 1.3;  // of the size, whatever font a line falls back to: baselines of a row agree

double Pixels(int pango_units) { return static_cast<double>(pango_units) / PANGO_SCALE; }

}  // namespace

Paragraph::Paragraph(const Fonts& fonts, const TextStyle& style, const std::string& text, double width)
    : context_(NewContext(fonts.map(), text)), layout_(pango_layout_new(context_.get())), color_(style.color) {
  PangoFontDescription* description = pango_font_description_new();
  pango_font_description_set_family(description, fonts.map().FamiliesFor(style.family, LanguageOf(text)).c_str());
  pango_font_description_set_absolute_size(description, style.size * PANGO_SCALE);
  pango_font_description_set_weight(description, style.bold ? PANGO_WEIGHT_BOLD : PANGO_WEIGHT_NORMAL);
  pango_layout_set_font_description(layout_.get(), description);
  pango_font_description_free(description);
  pango_layout_set_text(layout_.get(), text.data(), static_cast<int>(text.size()));
  pango_layout_set_wrap(layout_.get(), PANGO_WRAP_WORD_CHAR);
  pango_layout_set_alignment(layout_.get(), PANGO_ALIGN_CENTER);
  PangoAttrList* attributes = pango_attr_list_new();
  pango_attr_list_insert(attributes,
                         pango_attr_line_height_new_absolute(static_cast<int>(style.size * kLineHeight * PANGO_SCALE)));
  pango_layout_set_attributes(layout_.get(), attributes);
  pango_attr_list_unref(attributes);
  if (style.max_lines > 0) {
    pango_layout_set_height(layout_.get(), -style.max_lines);
    pango_layout_set_ellipsize(layout_.get(), PANGO_ELLIPSIZE_END);
  }
  width_ = width;
  set_width_ = width;
  pango_layout_set_width(layout_.get(), static_cast<int>(width * PANGO_SCALE));
  if (pango_layout_is_ellipsized(layout_.get()) == FALSE) Balance();
  PangoRectangle logical;
  pango_layout_get_extents(layout_.get(), nullptr, &logical);
  height_ = Pixels(logical.height);
  ink_width_ = Pixels(logical.width);
}

// Searches for the narrowest width that takes no more lines and cuts no word.
void Paragraph::Balance() {
  const int lines = pango_layout_get_line_count(layout_.get());
  if (lines < 2) return;
  const auto fits = [&](int width) {
    pango_layout_set_width(layout_.get(), width);
    PangoRectangle logical;
    pango_layout_get_extents(layout_.get(), nullptr, &logical);
    return pango_layout_get_line_count(layout_.get()) <= lines && logical.width <= width;
  };
  pango_layout_set_wrap(layout_.get(), PANGO_WRAP_WORD);
  int high = static_cast<int>(width_ * PANGO_SCALE);
  if (fits(high)) {
    int low = high / (2 * lines);
    while (high - low > PANGO_SCALE) {
      const int middle = low + (high - low) / 2;
      (fits(middle) ? high : low) = middle;
    }
  } else {
    pango_layout_set_wrap(layout_.get(), PANGO_WRAP_WORD_CHAR);
  }
  pango_layout_set_width(layout_.get(), high);
  set_width_ = Pixels(high);
}

void Paragraph::Draw(cairo_t* cairo, double x, double y) const {
  cairo_save(cairo);
  cairo_set_source_rgb(cairo, color_.red, color_.green, color_.blue);
  cairo_move_to(cairo, x + (width_ - set_width_) / 2, y);
  pango_cairo_show_layout(cairo, layout_.get());
  cairo_restore(cairo);
}

}  // namespace storyfarm::page
