// Pango and fontconfig behind fonts.h.
#ifndef STORYFARM_PIPELINE_PAGE_FONT_MAP_H_
#define STORYFARM_PIPELINE_PAGE_FONT_MAP_H_

#include <fontconfig/fontconfig.h>
#include <pango/pangocairo.h>

#include <memory>
#include <string>
#include <vector>

#include "pipeline/page/fonts.h"

namespace storyfarm::page {

// Deletes with a C function: std::unique_ptr<FcConfig, Free<FcConfigDestroy>>.
template <auto Function>
struct Free {
  template <typename T>
  void operator()(T* pointer) const {
    Function(pointer);
  }
};

using FcConfigPtr = std::unique_ptr<FcConfig, Free<FcConfigDestroy>>;
using FcPatternPtr = std::unique_ptr<FcPattern, Free<FcPatternDestroy>>;
using FcFontSetPtr = std::unique_ptr<FcFontSet, Free<FcFontSetDestroy>>;
using FcObjectSetPtr = std::unique_ptr<FcObjectSet, Free<FcObjectSetDestroy>>;
using FcCharSetPtr = std::unique_ptr<FcCharSet, Free<FcCharSetDestroy>>;
template <typename T>
using GObjectPtr = std::unique_ptr<T, Free<g_object_unref>>;

struct Fonts::Map {
  FcConfigPtr config;
  GObjectPtr<PangoFontMap> map;
  std::vector<std::string> families;  // of all faces of all files, in the files' order

  // `family`, then the others as Pango's list of fallbacks for text in that language: a font made for it comes before
  // those of the same design for other languages (Noto Sans CJK SC, TC, JP, KR).
  std::string FamiliesFor(const std::string& family, const PangoLanguage* language) const;
};

// The language whose letter shapes `text` asks for: Chinese, Japanese and Korean share code points but not shapes.
// Never the machine's own.
PangoLanguage* LanguageOf(const std::string& text);

// A context over `map` for text in that language: no hinting, grey edges, sizes in pixels.
GObjectPtr<PangoContext> NewContext(const Fonts::Map& map, const std::string& text);

// A configuration that knows these files' faces and nothing of the machine. Errors as in Fonts::Load.
absl::StatusOr<FcConfigPtr> ConfigOf(const std::vector<std::string>& files);

}  // namespace storyfarm::page

#endif  // STORYFARM_PIPELINE_PAGE_FONT_MAP_H_
