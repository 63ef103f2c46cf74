// One page drawn on a Cairo context, in pixels of the page.
#ifndef STORYFARM_PIPELINE_PAGE_DRAW_H_
#define STORYFARM_PIPELINE_PAGE_DRAW_H_

#include <cairo.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/page/layout.h"
#include "pipeline/page/page.h"

namespace storyfarm::page {

// A page laid out, its texts set: ready to be drawn on any surface.
class PreparedPage {
 public:
  // Errors as ComposePng's, those of pictures excepted. The references must outlive the result.
  static absl::StatusOr<std::unique_ptr<PreparedPage>> Prepare(const Page& page, const PageStyle& style,
                                                               const Fonts& fonts);
  ~PreparedPage();

  const PageLayout& layout() const;

  // What a picture becomes before it is drawn.
  enum class Pictures {
    kPagePixels,         // as many pixels as its place has
    kAtLeastPagePixels,  // its own, or as many as its place has where these are more
  };
  // Reads the pictures one by one. NOT_FOUND, INVALID_ARGUMENT: a picture's file.
  absl::Status Draw(cairo_t* cairo, Pictures pictures, base::Env& env) const;

 private:
  struct Contents;
  explicit PreparedPage(std::unique_ptr<Contents> contents);

  std::unique_ptr<Contents> contents_;
};

}  // namespace storyfarm::page

#endif  // STORYFARM_PIPELINE_PAGE_DRAW_H_
