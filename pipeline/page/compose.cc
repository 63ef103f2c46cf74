// Pages as files: PNG, PDF, CBZ.
#include <cairo-pdf.h>

#include <cstring>
#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/page/draw.h"
#include "pipeline/page/page.h"
#include "pipeline/page/png.h"
#include "pipeline/page/zip.h"

namespace storyfarm::page {
namespace {

// Cairo would stamp the time; a book is the same whenever it is made.
constexpr char kFixedDate[] = "2000-01-01T00:00:00Z";
// A page of any number of pixels is as wide as an A5 sheet.
constexpr double kPdfPageWidthPoints = 148 / 25.4 * 72;

struct CairoFree {
  void operator()(cairo_t* cairo) const { cairo_destroy(cairo); }
  void operator()(cairo_surface_t* surface) const { cairo_surface_destroy(surface); }
};
using CairoPtr = std::unique_ptr<cairo_t, CairoFree>;
using SurfacePtr = std::unique_ptr<cairo_surface_t, CairoFree>;

absl::Status CairoError(cairo_status_t status, const char* what) {
  const std::string message = absl::StrCat("drawing ", what, " failed: ", cairo_status_to_string(status));
  return status == CAIRO_STATUS_NO_MEMORY ? absl::ResourceExhaustedError(message) : absl::InternalError(message);
}

Picture ToPicture(cairo_surface_t* surface) {
  cairo_surface_flush(surface);
  Picture picture;
  picture.width = static_cast<uint32_t>(cairo_image_surface_get_width(surface));
  picture.height = static_cast<uint32_t>(cairo_image_surface_get_height(surface));
  picture.rgb.reserve(size_t{3} * picture.width * picture.height);
  const unsigned char* data = cairo_image_surface_get_data(surface);
  const auto stride = static_cast<size_t>(cairo_image_surface_get_stride(surface));
  for (size_t y = 0; y < picture.height; ++y) {
    const auto* row = reinterpret_cast<const uint32_t*>(data + y * stride);
    for (size_t x = 0; x < picture.width; ++x) {
      picture.rgb.push_back(static_cast<char>(row[x] >> 16));
      picture.rgb.push_back(static_cast<char>(row[x] >> 8));
      picture.rgb.push_back(static_cast<char>(row[x]));
    }
  }
  return picture;
}

// Writes `path` anew; what a failure leaves is removed.
absl::Status WriteWhole(const std::string& path, base::Env& env,
                        const std::function<absl::Status(base::WritableFile&)>& write) {
  auto file = env.OpenForWriting(path, base::WriteMode::kTruncate);
  if (!file.ok()) return file.status();
  absl::Status written = write(**file);
  const absl::Status closed = (*file)->Close();
  if (written.ok()) written = closed;
  if (!written.ok()) env.Remove(path).IgnoreError();
  return written;
}

// Where Cairo's PDF goes, and what went wrong there.
struct PdfSink {
  base::WritableFile& file;
  absl::Status status;
};

cairo_status_t WriteToSink(void* closure, const unsigned char* data, unsigned int size) {
  auto* sink = static_cast<PdfSink*>(closure);
  if (sink->status.ok()) sink->status = sink->file.Append({reinterpret_cast<const char*>(data), size});
  return sink->status.ok() ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

absl::Status DrawPdfPage(const Page& page, const PageStyle& style, const Fonts& fonts, base::Env& env,
                         cairo_surface_t* surface) {
  auto prepared = PreparedPage::Prepare(page, style, fonts);
  if (!prepared.ok()) return prepared.status();
  const PageLayout& layout = (*prepared)->layout();
  const double points_per_pixel = kPdfPageWidthPoints / layout.width;
  cairo_pdf_surface_set_size(surface, kPdfPageWidthPoints, layout.height * points_per_pixel);
  const CairoPtr cairo(cairo_create(surface));
  cairo_scale(cairo.get(), points_per_pixel, points_per_pixel);
  if (absl::Status drawn = (*prepared)->Draw(cairo.get(), PreparedPage::Pictures::kAtLeastPagePixels, env);
      !drawn.ok()) {
    return drawn;
  }
  cairo_show_page(cairo.get());
  const cairo_status_t status = cairo_status(cairo.get());
  return status == CAIRO_STATUS_SUCCESS ? absl::OkStatus() : CairoError(status, "a PDF page");
}

absl::Status DrawPdf(const Book& book, const PageStyle& style, const Fonts& fonts, base::Env& env, PdfSink& sink) {
  const SurfacePtr surface(cairo_pdf_surface_create_for_stream(WriteToSink, &sink, kPdfPageWidthPoints, 1));
  cairo_pdf_surface_set_metadata(surface.get(), CAIRO_PDF_METADATA_CREATE_DATE, kFixedDate);
  cairo_pdf_surface_set_metadata(surface.get(), CAIRO_PDF_METADATA_MOD_DATE, kFixedDate);
  cairo_pdf_surface_set_metadata(surface.get(), CAIRO_PDF_METADATA_CREATOR, "storyfarm");
  if (!book.title.empty()) {
    cairo_pdf_surface_set_metadata(surface.get(), CAIRO_PDF_METADATA_TITLE, book.title.c_str());
  }
  if (!book.author.empty()) {
    cairo_pdf_surface_set_metadata(surface.get(), CAIRO_PDF_METADATA_AUTHOR, book.author.c_str());
  }
  for (size_t i = 0; i < book.pages.size(); ++i) {
    if (absl::Status drawn = DrawPdfPage(book.pages[i], style, fonts, env, surface.get()); !drawn.ok()) {
      return sink.status.ok() ? drawn : sink.status;  // Cairo only knows that the sink refused
    }
    if (!book.pages[i].chapter_title.empty()) {
      cairo_pdf_surface_add_outline(surface.get(), CAIRO_PDF_OUTLINE_ROOT, book.pages[i].chapter_title.c_str(),
                                    absl::StrCat("page=", i + 1).c_str(), CAIRO_PDF_OUTLINE_FLAG_OPEN);
    }
  }
  cairo_surface_finish(surface.get());
  const cairo_status_t status = cairo_surface_status(surface.get());
  if (!sink.status.ok()) return sink.status;
  return status == CAIRO_STATUS_SUCCESS ? absl::OkStatus() : CairoError(status, "a PDF");
}

std::string XmlText(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      default:
        escaped.push_back(c);
    }
  }
  return escaped;
}

// The metadata that comic readers look for (ComicInfo schema 2.0).
std::string ComicInfo(const Book& book) {
  std::string xml =
      "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"
      "<ComicInfo xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" "
      "xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">\n";
  if (!book.title.empty()) absl::StrAppend(&xml, "  <Title>", XmlText(book.title), "</Title>\n");
  if (!book.author.empty()) absl::StrAppend(&xml, "  <Writer>", XmlText(book.author), "</Writer>\n");
  absl::StrAppend(&xml, "  <PageCount>", book.pages.size(), "</PageCount>\n</ComicInfo>\n");
  return xml;
}

}  // namespace

absl::StatusOr<std::string> ComposePng(const Page& page, const PageStyle& style, const Fonts& fonts, base::Env& env) {
  auto prepared = PreparedPage::Prepare(page, style, fonts);
  if (!prepared.ok()) return prepared.status();
  const PageLayout& layout = (*prepared)->layout();
  const SurfacePtr surface(
      cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(layout.width), static_cast<int>(layout.height)));
  const CairoPtr cairo(cairo_create(surface.get()));
  absl::Status drawn = (*prepared)->Draw(cairo.get(), PreparedPage::Pictures::kPagePixels, env);
  if (!drawn.ok()) return drawn;
  const cairo_status_t status = cairo_status(cairo.get());
  if (status != CAIRO_STATUS_SUCCESS) return CairoError(status, "a page");
  std::vector<PngText> texts = {{"Software", "storyfarm"}};
  if (!page.title.empty()) texts.push_back({"Title", page.title});
  if (!page.author.empty()) texts.push_back({"Author", page.author});
  return EncodePng(ToPicture(surface.get()), texts);
}

absl::Status WritePdf(const Book& book, const PageStyle& style, const Fonts& fonts, const std::string& path,
                      base::Env& env) {
  return WriteWhole(path, env, [&](base::WritableFile& file) {
    PdfSink sink{file, absl::OkStatus()};
    return DrawPdf(book, style, fonts, env, sink);
  });
}

absl::Status WriteCbz(const Book& book, const PageStyle& style, const Fonts& fonts, const std::string& path,
                      base::Env& env) {
  return WriteWhole(path, env, [&](base::WritableFile& file) {
    ZipWriter zip(file);
    if (absl::Status added = zip.Add("ComicInfo.xml", ComicInfo(book)); !added.ok()) return added;
    for (size_t i = 0; i < book.pages.size(); ++i) {
      auto png = ComposePng(book.pages[i], style, fonts, env);
      if (!png.ok()) return png.status();
      // Readers sort by name, some of them without regard to numbers.
      if (absl::Status added = zip.Add(absl::StrFormat("%05d.png", i + 1), *png); !added.ok()) return added;
    }
    return zip.Finish();
  });
}

}  // namespace storyfarm::page
