#include "pipeline/page/draw.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "pipeline/page/png.h"
#include "pipeline/page/resample.h"
#include "pipeline/page/text.h"

namespace storyfarm::page {
namespace {

// Printing ink on uncoated paper.
constexpr Color kPaper = {0.988, 0.969, 0.925};
constexpr Color kInk = {0.161, 0.141, 0.129};
constexpr Color kSoftInk = {0.455, 0.412, 0.365};
constexpr Color kAccent = {0.714, 0.329, 0.239};
constexpr Color kStandIn = {0.941, 0.910, 0.847};
constexpr Color kHatching = {0.886, 0.843, 0.757};

constexpr double kDesignWidth = 1240;  // sizes below are pixels of a page this wide
constexpr double kTitleSize = 66;
constexpr double kAuthorSize = 27;
constexpr double kChapterSize = 42;
constexpr double kNumberSize = 23;
constexpr double kFrameWidth = 2.6;
constexpr double kAuthorGap = 4;
constexpr double kChapterGap = 34;  // from the story's title to the chapter's
constexpr double kOrnamentGap = 16;
constexpr double kOrnamentHeight = 12;
constexpr double kEndOrnamentRoom = 150;  // a page that is not full ends with one where it has this height left
constexpr uint32_t kDefaultColumns = 2;
constexpr uint32_t kDefaultRows = 3;
constexpr uint32_t kDefaultWidth = 1240;
constexpr int kMaxHeadingLines = 3;
constexpr int kMaxReasonLines = 4;
constexpr double kCaptionBoxShare = 0.5;  // of the picture's height: a higher caption box goes below it
constexpr uint64_t kMaxImageFileBytes = uint64_t{256} << 20;

void SetColor(cairo_t* cairo, const Color& color) { cairo_set_source_rgb(cairo, color.red, color.green, color.blue); }

void FillRect(cairo_t* cairo, const Rect& rect, const Color& color) {
  SetColor(cairo, color);
  cairo_rectangle(cairo, rect.x, rect.y, rect.width, rect.height);
  cairo_fill(cairo);
}

// Just inside of the rectangle, so that its outside is where the layout says.
void StrokeRect(cairo_t* cairo, const Rect& rect, double line_width, const Color& color) {
  SetColor(cairo, color);
  cairo_set_line_width(cairo, line_width);
  cairo_rectangle(cairo, rect.x + line_width / 2, rect.y + line_width / 2, rect.width - line_width,
                  rect.height - line_width);
  cairo_stroke(cairo);
}

void FillDiamond(cairo_t* cairo, double x, double y, double radius) {
  cairo_move_to(cairo, x, y - radius);
  cairo_line_to(cairo, x + radius, y);
  cairo_line_to(cairo, x, y + radius);
  cairo_line_to(cairo, x - radius, y);
  cairo_close_path(cairo);
  cairo_fill(cairo);
}

struct SurfaceFree {
  void operator()(cairo_surface_t* surface) const { cairo_surface_destroy(surface); }
};
using SurfacePtr = std::unique_ptr<cairo_surface_t, SurfaceFree>;

SurfacePtr ToSurface(const Picture& picture) {
  SurfacePtr surface(cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(picture.width),
                                                static_cast<int>(picture.height)));
  if (cairo_surface_status(surface.get()) != CAIRO_STATUS_SUCCESS) return surface;
  cairo_surface_flush(surface.get());
  unsigned char* data = cairo_image_surface_get_data(surface.get());
  const auto stride = static_cast<size_t>(cairo_image_surface_get_stride(surface.get()));
  const auto* rgb = reinterpret_cast<const unsigned char*>(picture.rgb.data());
  for (size_t y = 0; y < picture.height; ++y) {
    auto* row = reinterpret_cast<uint32_t*>(data + y * stride);
    for (size_t x = 0; x < picture.width; ++x, rgb += 3) {
      row[x] = static_cast<uint32_t>(rgb[0]) << 16 | static_cast<uint32_t>(rgb[1]) << 8 | rgb[2];
    }
  }
  cairo_surface_mark_dirty(surface.get());
  return surface;
}

absl::Status CheckStyle(const Page& page, const PageStyle& style, const Fonts& fonts) {
  if (style.columns > kMaxColumns || style.rows > kMaxRows) {
    return absl::InvalidArgumentError(absl::StrCat("a page has 1 to ", kMaxColumns, " columns and 1 to ", kMaxRows,
                                                   " rows, not ", style.columns, " and ", style.rows));
  }
  if (style.width != 0 && (style.width < kMinPageWidth || style.width > kMaxPageWidth)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a page is ", kMinPageWidth, " to ", kMaxPageWidth, " pixels wide, not ", style.width));
  }
  if (!style.font_family.empty() && !fonts.HasFamily(style.font_family)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the page's font '", style.font_family, "' is not among the job's font files"));
  }
  const uint64_t room =
      uint64_t{style.columns == 0 ? kDefaultColumns : style.columns} * (style.rows == 0 ? kDefaultRows : style.rows);
  if (page.panels.empty() || page.panels.size() > room) {
    return absl::InvalidArgumentError(
        absl::StrCat("page ", page.number + 1, " has ", page.panels.size(), " panels; 1 to ", room, " fit"));
  }
  for (const PagePanel& panel : page.panels) {
    if (panel.width == 0 || panel.height == 0 || panel.width > kMaxPngEdgePixels || panel.height > kMaxPngEdgePixels) {
      return absl::InvalidArgumentError(absl::StrCat("panel ", panel.number + 1, " has a picture of ", panel.width,
                                                     " x ", panel.height, " pixels, which has no place on a page"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

struct PreparedPage::Contents {
  const Page& page;
  const Fonts& fonts;
  PageMetrics metrics;
  PageLayout layout;
  double unit = 1;
  size_t room = 0;  // panels of a full page
  std::string family;
  std::optional<Paragraph> title;
  std::optional<Paragraph> author;
  std::optional<Paragraph> chapter;
  std::optional<Paragraph> number;
  // Of each panel; one of both at most.
  std::vector<std::optional<Paragraph>> under;
  std::vector<std::optional<Paragraph>> inside;

  TextStyle Type(double size, Color color, bool bold = false, int max_lines = 0) const {
    return {family, size, bold, color, max_lines};
  }
  TextStyle CaptionType() const { return Type(metrics.caption_size, kInk); }

  double PrepareHeading();
  double PrepareCaption(size_t panel, double width, CaptionPlace place);
  Rect CaptionBox(size_t panel) const;

  void DrawHeading(cairo_t* cairo) const;
  void DrawOrnament(cairo_t* cairo, double y, double reach) const;
  void DrawStandIn(cairo_t* cairo, const PagePanel& panel, const Rect& rect) const;
  absl::Status DrawPicture(cairo_t* cairo, const PagePanel& panel, const Rect& rect, Pictures pictures,
                           base::Env& env) const;
  void DrawCaption(cairo_t* cairo, size_t panel) const;
};

// Returns the heading's height.
double PreparedPage::Contents::PrepareHeading() {
  const double width = metrics.content_width();
  double height = 0;
  if (!page.title.empty()) {
    title.emplace(fonts, Type(kTitleSize * unit, kInk, true, kMaxHeadingLines), page.title, width);
    height += title->height();
    if (!page.author.empty()) {
      author.emplace(fonts, Type(kAuthorSize * unit, kSoftInk, false, kMaxHeadingLines), page.author, width);
      height += kAuthorGap * unit + author->height();
    }
  }
  if (!page.chapter_title.empty()) {
    if (height > 0) height += kChapterGap * unit;
    chapter.emplace(fonts, Type(kChapterSize * unit, kInk, true, kMaxHeadingLines), page.chapter_title, width);
    height += chapter->height();
  }
  if (height > 0) height += (kOrnamentGap + kOrnamentHeight) * unit;
  return std::ceil(height);
}

// Sets a caption under or in its picture; returns the height that it takes below.
double PreparedPage::Contents::PrepareCaption(size_t panel, double width, CaptionPlace place) {
  const std::string& caption = page.panels[panel].caption;
  if (caption.empty()) return 0;
  if (place == CaptionPlace::kIn) {
    const double picture_height = width * page.panels[panel].height / page.panels[panel].width;
    const double padding = metrics.caption_size;
    Paragraph paragraph(fonts, CaptionType(), caption, std::max(width - 3.2 * padding, width * 0.5));
    if (paragraph.height() + padding <= picture_height * kCaptionBoxShare) {
      inside[panel].emplace(std::move(paragraph));
      return 0;
    }
  }
  under[panel].emplace(fonts, CaptionType(), caption, width);
  return std::ceil(under[panel]->height());
}

Rect PreparedPage::Contents::CaptionBox(size_t panel) const {
  const Rect& picture = layout.panels[panel].picture;
  const double padding_x = metrics.caption_size * 0.6;
  const double padding_y = metrics.caption_size * 0.32;
  const double inset = std::round(metrics.caption_size * 0.5);
  const double width = std::ceil(inside[panel]->ink_width() + 2 * padding_x);
  const double height = std::ceil(inside[panel]->height() + 2 * padding_y);
  return {picture.x + inset, picture.bottom() - inset - height, width, height};
}

void PreparedPage::Contents::DrawOrnament(cairo_t* cairo, double y, double reach) const {
  const double middle = metrics.width / 2;
  SetColor(cairo, kAccent);
  FillDiamond(cairo, middle, y, 6 * unit);
  cairo_set_line_width(cairo, 1.6 * unit);
  for (const double side : {-1.0, 1.0}) {
    cairo_move_to(cairo, middle + side * 18 * unit, y);
    cairo_line_to(cairo, middle + side * reach * unit, y);
    cairo_stroke(cairo);
  }
}

void PreparedPage::Contents::DrawHeading(cairo_t* cairo) const {
  const double x = layout.heading.x;
  double y = layout.heading.y;
  if (title.has_value()) {
    title->Draw(cairo, x, y);
    y += title->height();
  }
  if (author.has_value()) {
    y += kAuthorGap * unit;
    author->Draw(cairo, x, y);
    y += author->height();
  }
  if (chapter.has_value()) {
    if (title.has_value()) y += kChapterGap * unit;
    chapter->Draw(cairo, x, y);
    y += chapter->height();
  }
  if (layout.heading.height > 0) DrawOrnament(cairo, y + (kOrnamentGap + kOrnamentHeight / 2) * unit, 96);
}

void PreparedPage::Contents::DrawStandIn(cairo_t* cairo, const PagePanel& panel, const Rect& rect) const {
  cairo_save(cairo);
  cairo_rectangle(cairo, rect.x, rect.y, rect.width, rect.height);
  cairo_clip(cairo);
  FillRect(cairo, rect, kStandIn);
  SetColor(cairo, kHatching);
  cairo_set_line_width(cairo, 3 * unit);
  const double step = 22 * unit;
  for (double x = rect.x - rect.height; x < rect.right(); x += step) {
    cairo_move_to(cairo, x, rect.bottom());
    cairo_line_to(cairo, x + rect.height, rect.y);
    cairo_stroke(cairo);
  }
  const double width = rect.width * 0.84;
  const double x = rect.x + (rect.width - width) / 2;
  const std::string reason = panel.failure.empty() ? "no reason was given" : panel.failure;
  const Paragraph what(fonts, Type(metrics.caption_size * 1.1, kAccent, true, 2),
                       absl::StrCat("Panel ", panel.number + 1, " is missing"), width);
  const Paragraph why(fonts, Type(metrics.caption_size * 0.82, kSoftInk, false, kMaxReasonLines), reason, width);
  const double gap = metrics.caption_size * 0.4;
  const bool both = what.height() + gap + why.height() < rect.height * 0.94;
  const double height = what.height() + (both ? gap + why.height() : 0);
  const double top = rect.y + (rect.height - height) / 2;
  const double label_width = std::max(what.ink_width(), both ? why.ink_width() : 0) + 2 * gap;
  FillRect(cairo, {rect.x + (rect.width - label_width) / 2, top - gap, label_width, height + 2 * gap}, kStandIn);
  what.Draw(cairo, x, top);
  if (both) why.Draw(cairo, x, top + what.height() + gap);
  cairo_restore(cairo);
}

absl::Status PreparedPage::Contents::DrawPicture(cairo_t* cairo, const PagePanel& panel, const Rect& rect,
                                                 Pictures pictures, base::Env& env) const {
  auto bytes = env.ReadFile(panel.image_path, kMaxImageFileBytes);
  if (!bytes.ok()) return bytes.status();
  auto picture = DecodePng(*bytes);
  if (!picture.ok()) {
    return absl::Status(picture.status().code(), absl::StrCat("panel ", panel.number + 1, " (", panel.image_path,
                                                              "): ", picture.status().message()));
  }
  const auto width = static_cast<uint32_t>(rect.width);
  const auto height = static_cast<uint32_t>(rect.height);
  if (pictures == Pictures::kPagePixels || picture->width < width || picture->height < height) {
    *picture = Resample(*picture, width, height);
  }
  const SurfacePtr surface = ToSurface(*picture);
  if (cairo_surface_status(surface.get()) != CAIRO_STATUS_SUCCESS) {
    return absl::ResourceExhaustedError("no memory for a page's picture");
  }
  cairo_save(cairo);
  cairo_translate(cairo, rect.x, rect.y);
  cairo_scale(cairo, rect.width / picture->width, rect.height / picture->height);
  cairo_set_source_surface(cairo, surface.get(), 0, 0);
  const bool exact = picture->width == width && picture->height == height;
  cairo_pattern_set_filter(cairo_get_source(cairo),
                           exact && pictures == Pictures::kPagePixels ? CAIRO_FILTER_NEAREST : CAIRO_FILTER_GOOD);
  cairo_rectangle(cairo, 0, 0, picture->width, picture->height);
  cairo_fill(cairo);
  cairo_restore(cairo);
  return absl::OkStatus();
}

void PreparedPage::Contents::DrawCaption(cairo_t* cairo, size_t panel) const {
  if (under[panel].has_value()) {
    const Rect& place = layout.panels[panel].caption;
    under[panel]->Draw(cairo, place.x, place.y);
  }
  if (inside[panel].has_value()) {
    const Rect box = CaptionBox(panel);
    FillRect(cairo, box, kPaper);
    StrokeRect(cairo, box, kFrameWidth * 0.7 * unit, kInk);
    inside[panel]->Draw(cairo, box.x + (box.width - inside[panel]->width()) / 2,
                        box.y + (box.height - inside[panel]->height()) / 2);
  }
}

PreparedPage::PreparedPage(std::unique_ptr<Contents> contents) : contents_(std::move(contents)) {}
PreparedPage::~PreparedPage() = default;
const PageLayout& PreparedPage::layout() const { return contents_->layout; }

absl::StatusOr<std::unique_ptr<PreparedPage>> PreparedPage::Prepare(const Page& page, const PageStyle& style,
                                                                    const Fonts& fonts) {
  if (absl::Status checked = CheckStyle(page, style, fonts); !checked.ok()) return checked;
  auto contents = std::make_unique<Contents>(Contents{page, fonts});
  Contents& c = *contents;
  const double width = style.width == 0 ? kDefaultWidth : style.width;
  c.unit = width / kDesignWidth;
  c.family = style.font_family.empty() ? fonts.default_family() : style.font_family;
  PageShape shape;
  shape.columns = static_cast<int>(style.columns == 0 ? kDefaultColumns : style.columns);
  shape.rows = static_cast<int>(style.rows == 0 ? kDefaultRows : style.rows);
  c.room = static_cast<size_t>(shape.columns) * static_cast<size_t>(shape.rows);
  c.metrics = MetricsFor(width, shape.columns);
  c.under.resize(page.panels.size());
  c.inside.resize(page.panels.size());
  shape.heading_height = c.PrepareHeading();
  for (const PagePanel& panel : page.panels) {
    shape.aspects.push_back(static_cast<double>(panel.height) / panel.width);
  }
  shape.caption_height = [&c, &style](size_t panel, double panel_width) {
    return c.PrepareCaption(panel, panel_width, style.caption);
  };
  c.layout = LayoutPage(c.metrics, shape);
  if (c.layout.height > kMaxPageHeight || c.layout.height * c.layout.width > static_cast<double>(kMaxPagePixels)) {
    return absl::InvalidArgumentError(absl::StrCat("page ", page.number + 1, " would have ", c.layout.width, " x ",
                                                   c.layout.height,
                                                   " pixels, too many to draw; choose a smaller width"));
  }
  c.number.emplace(fonts, c.Type(kNumberSize * c.unit, kSoftInk), absl::StrCat("\u2013 ", page.number + 1, " \u2013"),
                   c.metrics.content_width());
  return std::unique_ptr<PreparedPage>(new PreparedPage(std::move(contents)));
}

absl::Status PreparedPage::Draw(cairo_t* cairo, Pictures pictures, base::Env& env) const {
  const Contents& c = *contents_;
  FillRect(cairo, {0, 0, c.layout.width, c.layout.height}, kPaper);
  c.DrawHeading(cairo);
  for (size_t i = 0; i < c.page.panels.size(); ++i) {
    const PagePanel& panel = c.page.panels[i];
    const Rect& rect = c.layout.panels[i].picture;
    if (panel.image_path.empty()) {
      c.DrawStandIn(cairo, panel, rect);
    } else if (absl::Status drawn = c.DrawPicture(cairo, panel, rect, pictures, env); !drawn.ok()) {
      return drawn;
    }
    StrokeRect(cairo, rect, kFrameWidth * c.unit, kInk);
    c.DrawCaption(cairo, i);
  }
  if (c.page.panels.size() < c.room && c.layout.free_height > kEndOrnamentRoom * c.unit) {
    c.DrawOrnament(cairo, c.layout.content_bottom + 90 * c.unit, 60);
  }
  c.number->Draw(cairo, c.metrics.margin_side, c.layout.number_baseline - c.number->height() * 0.75);
  return absl::OkStatus();
}

}  // namespace storyfarm::page
