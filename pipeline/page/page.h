// Pages: panels, captions and chapter headings laid out as a printed comic, as PNG, PDF and CBZ.
//
// For the engine (a PageWork becomes the structs below) and for `storyctl render`.
//
//   Page + PageStyle --layout.cc--> PageLayout (rectangles, numbers only) --draw.cc--> Cairo --+-- ComposePng: a page
//                         ^                                                                    +-- WritePdf: the book
//                   caption heights from text.cc (Pango over Fonts)                 zip.cc ----+-- WriteCbz: the book
//
// Equal input gives equal bytes on machines of one kind: fonts come from files (fonts.h), pictures are scaled in
// integer arithmetic (resample.h), dates are fixed.
#ifndef STORYFARM_PIPELINE_PAGE_PAGE_H_
#define STORYFARM_PIPELINE_PAGE_PAGE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/page/fonts.h"

namespace storyfarm::page {

// One panel of a page. Its picture is read when the page is drawn and released after it.
struct PagePanel {
  uint32_t number = 0;  // in the story, from 0; a stand-in shows it counted from 1
  uint32_t width = 0;   // pixels of the picture: the layout needs them where the picture is missing, too
  uint32_t height = 0;
  std::string image_path;  // a PNG; empty: the panel failed, a marked stand-in is drawn
  std::string failure;     // the stand-in's reason
  std::string caption;     // UTF-8; empty: none
};

struct Page {
  uint32_t number = 0;        // in the story, from 0; printed counted from 1
  std::string title;          // the story's, on its first page; else empty
  std::string author;         // likewise
  std::string chapter_title;  // on a chapter's first page, else empty
  std::vector<PagePanel> panels;
};

enum class CaptionPlace {
  kUnder,  // below the picture
  kIn,     // in a box over the picture's lower edge; a caption that would hide over half of it goes under it
};

// How pages look. Zero or empty fields have these defaults.
struct PageStyle {
  uint32_t columns = 0;  // panels side by side, 1 to 6; 2
  uint32_t rows = 0;     // of panels, 1 to 6; 3: a page's height follows from columns, rows and the panels' shape
  CaptionPlace caption = CaptionPlace::kUnder;
  uint32_t width = 0;       // pixels of the page, 400 to 6000; 1240, an A5 page at 210 dots an inch
  std::string font_family;  // one of the loaded fonts; empty: the first file's
};

struct Book {
  std::string title;
  std::string author;
  std::vector<Page> pages;
};

// Bounds on one page. The planner cuts pages by columns and rows; these hold for whatever else arrives.
inline constexpr uint32_t kMaxColumns = 6;
inline constexpr uint32_t kMaxRows = 6;
inline constexpr uint32_t kMinPageWidth = 400;
inline constexpr uint32_t kMaxPageWidth = 6000;
inline constexpr uint32_t kMaxPageHeight = 24'000;              // Cairo's image surfaces end at 32,767
inline constexpr uint64_t kMaxPagePixels = uint64_t{64} << 20;  // 256 MiB while it is drawn; A4 at 600 dots has 35 M

// One page as PNG bytes. `env` is where its pictures are read. INVALID_ARGUMENT: the style is out of range, the page
// has no panel or more than columns x rows, a picture is no PNG, a font family is unknown, the page would be over the
// bounds. NOT_FOUND: a picture's file is missing.
absl::StatusOr<std::string> ComposePng(const Page& page, const PageStyle& style, const Fonts& fonts, base::Env& env);

// The whole story as PDF: one sheet a page, text as text, pictures in their own resolution or, where that is
// coarser, the page's. Written to `path`, which is
// replaced. Memory holds one page's pictures at a time.
absl::Status WritePdf(const Book& book, const PageStyle& style, const Fonts& fonts, const std::string& path,
                      base::Env& env);

// The whole story as CBZ: a zip file of page pictures with ComicInfo.xml, as comic readers open it. Likewise.
absl::Status WriteCbz(const Book& book, const PageStyle& style, const Fonts& fonts, const std::string& path,
                      base::Env& env);

}  // namespace storyfarm::page

#endif  // STORYFARM_PIPELINE_PAGE_PAGE_H_
