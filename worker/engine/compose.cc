#include "worker/engine/compose.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "pipeline/page/page.h"
#include "worker/engine/outputs.h"

namespace storyfarm::engine {
namespace {

page::PageStyle ToStyle(const farm::v1::PageSettings& from) {
  page::PageStyle style;
  style.columns = from.columns();
  style.rows = from.rows();
  style.caption = from.caption() == farm::v1::CAPTION_IN ? page::CaptionPlace::kIn : page::CaptionPlace::kUnder;
  style.width = from.width();
  style.font_family = from.font_family();
  return style;
}

absl::StatusOr<page::Page> ToPage(const farm::v1::Page& from, const FilesByDigest& files) {
  page::Page page;
  page.number = from.number();
  page.chapter_title = from.chapter_title();
  for (const farm::v1::PagePanel& panel : from.panels()) {
    page::PagePanel& to = page.panels.emplace_back();
    to.number = panel.panel();
    to.width = panel.width();
    to.height = panel.height();
    to.failure = panel.failure();
    to.caption = panel.caption();
    if (!panel.has_image()) continue;
    auto path = FindFile(files, panel.image(), absl::StrCat("the picture of panel ", panel.panel()));
    if (!path.ok()) return path.status();
    to.image_path = *std::move(path);
  }
  return page;
}

absl::StatusOr<std::unique_ptr<page::Fonts>> LoadFonts(const farm::v1::PageWork& work, const FilesByDigest& files) {
  std::vector<std::string> paths;
  for (const farm::v1::FontFile& font : work.fonts()) {
    auto path = FindFile(files, font.blob(), absl::StrCat("the font ", font.file_name()));
    if (!path.ok()) return path.status();
    paths.push_back(*std::move(path));
  }
  return page::Fonts::Load(paths);
}

}  // namespace

absl::StatusOr<farm::v1::PagesDone> ComposePages(const farm::v1::PageWork& work, const FilesByDigest& files,
                                                 base::Env& env, const std::string& folder) {
  if (!work.book() && work.pages_size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat("page work names ", work.pages_size(), " pages; one was expected"));
  }
  auto fonts = LoadFonts(work, files);
  if (!fonts.ok()) return fonts.status();
  page::Book book;
  book.title = work.title();
  book.author = work.author();
  for (const farm::v1::Page& from : work.pages()) {
    auto page = ToPage(from, files);
    if (!page.ok()) return page.status();
    if (page->number == 0) {
      page->title = work.title();
      page->author = work.author();
    }
    book.pages.push_back(*std::move(page));
  }
  const page::PageStyle style = ToStyle(work.settings());

  farm::v1::PagesDone done;
  if (work.book()) {
    done.set_pdf_path(absl::StrCat(folder, "/story.pdf"));
    done.set_cbz_path(absl::StrCat(folder, "/story.cbz"));
    if (absl::Status written = FromDisk(page::WritePdf(book, style, **fonts, done.pdf_path(), env)); !written.ok())
      return written;
    if (absl::Status written = FromDisk(page::WriteCbz(book, style, **fonts, done.cbz_path(), env)); !written.ok())
      return written;
    return done;
  }
  auto png = page::ComposePng(book.pages.front(), style, **fonts, env);
  if (!png.ok()) return png.status();
  done.set_png_path(absl::StrCat(folder, "/page.png"));
  if (absl::Status written = WriteOutput(env, done.png_path(), *png); !written.ok()) return written;
  return done;
}

}  // namespace storyfarm::engine
