#include "pipeline/page/fonts.h"

#include <pango/pangofc-fontmap.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pipeline/page/font_map.h"

namespace storyfarm::page {
namespace {

struct CodeRange {
  gunichar first;
  gunichar last;
};
constexpr CodeRange kKana[] = {{0x3040, 0x30FF}, {0x31F0, 0x31FF}, {0xFF66, 0xFF9F}};
constexpr CodeRange kHangul[] = {{0x1100, 0x11FF}, {0x3130, 0x318F}, {0xAC00, 0xD7AF}};
constexpr CodeRange kHan[] = {
    {0x2E80, 0x2FDF}, {0x3400, 0x4DBF}, {0x4E00, 0x9FFF}, {0xF900, 0xFAFF}, {0x20000, 0x323AF}};

template <size_t N>
bool Contains(const CodeRange (&ranges)[N], gunichar c) {
  return std::any_of(std::begin(ranges), std::end(ranges),
                     [c](const CodeRange& range) { return c >= range.first && c <= range.last; });
}

absl::Status CheckFile(const std::string& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error)
    return absl::InvalidArgumentError(absl::StrCat("the font file ", path, " cannot be read: ", error.message()));
  if (size > kMaxFontBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the font file ", path, " has ", size, " bytes; at most ", kMaxFontBytes, " are allowed"));
  }
  return absl::OkStatus();
}

// How families of one design for several languages end.
std::string_view FamilyEnding(const PangoLanguage* language) {
  const std::string_view name = pango_language_to_string(const_cast<PangoLanguage*>(language));
  if (name == "zh-cn") return " SC";
  if (name == "ja") return " JP";
  if (name == "ko") return " KR";
  return "";
}

}  // namespace

std::string Fonts::Map::FamiliesFor(const std::string& family, const PangoLanguage* language) const {
  const std::string_view ending = FamilyEnding(language);
  std::vector<std::string> first;
  std::vector<std::string> rest;
  for (const std::string& other : families) {
    if (other == family) continue;
    (!ending.empty() && std::string_view(other).ends_with(ending) ? first : rest).push_back(other);
  }
  std::string list = family;
  for (const std::string& other : first) list += "," + other;
  for (const std::string& other : rest) list += "," + other;
  return list;
}

PangoLanguage* LanguageOf(const std::string& text) {
  bool han = false;
  if (!g_utf8_validate(text.data(), static_cast<gssize>(text.size()), nullptr)) return pango_language_from_string("en");
  for (const char* at = text.data(); at < text.data() + text.size(); at = g_utf8_next_char(at)) {
    const gunichar c = g_utf8_get_char(at);
    if (Contains(kKana, c)) return pango_language_from_string("ja");
    if (Contains(kHangul, c)) return pango_language_from_string("ko");
    han = han || Contains(kHan, c);
  }
  return pango_language_from_string(han ? "zh-cn" : "en");
}

GObjectPtr<PangoContext> NewContext(const Fonts::Map& map, const std::string& text) {
  GObjectPtr<PangoContext> context(pango_font_map_create_context(map.map.get()));
  cairo_font_options_t* options = cairo_font_options_create();
  cairo_font_options_set_antialias(options, CAIRO_ANTIALIAS_GRAY);
  cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_NONE);
  cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
  pango_cairo_context_set_font_options(context.get(), options);
  cairo_font_options_destroy(options);
  pango_context_set_round_glyph_positions(context.get(), FALSE);
  pango_context_set_base_dir(context.get(), PANGO_DIRECTION_LTR);
  pango_context_set_language(context.get(), LanguageOf(text));
  return context;
}

absl::StatusOr<FcConfigPtr> ConfigOf(const std::vector<std::string>& files) {
  if (files.empty()) return absl::InvalidArgumentError("there is no font file; pages need at least one");
  if (files.size() > kMaxFontFiles) {
    return absl::InvalidArgumentError(
        absl::StrCat("there are ", files.size(), " font files; at most ", kMaxFontFiles, " are allowed"));
  }
  FcConfigPtr config(FcConfigCreate());
  if (config == nullptr) return absl::ResourceExhaustedError("no memory for a font configuration");
  for (const std::string& path : files) {
    if (absl::Status checked = CheckFile(path); !checked.ok()) return checked;
    const FcFontSet* before = FcConfigGetFonts(config.get(), FcSetApplication);
    const int faces = before == nullptr ? 0 : before->nfont;
    const bool added = FcConfigAppFontAddFile(config.get(), reinterpret_cast<const FcChar8*>(path.c_str())) == FcTrue;
    const FcFontSet* after = FcConfigGetFonts(config.get(), FcSetApplication);
    if (!added || after == nullptr || after->nfont == faces) {
      return absl::InvalidArgumentError(absl::StrCat("the file ", path, " is no font"));
    }
  }
  return config;
}

absl::StatusOr<std::unique_ptr<Fonts>> Fonts::Load(const std::vector<std::string>& files) {
  auto config = ConfigOf(files);
  if (!config.ok()) return config.status();
  auto map = std::make_unique<Map>();
  map->config = *std::move(config);
  map->map.reset(pango_cairo_font_map_new_for_font_type(CAIRO_FONT_TYPE_FT));
  if (map->map == nullptr) return absl::FailedPreconditionError("Pango was built without FreeType");
  pango_fc_font_map_set_config(PANGO_FC_FONT_MAP(map->map.get()), map->config.get());
  const FcFontSet* faces = FcConfigGetFonts(map->config.get(), FcSetApplication);
  for (int i = 0; i < faces->nfont; ++i) {
    FcChar8* family = nullptr;
    if (FcPatternGetString(faces->fonts[i], FC_FAMILY, 0, &family) == FcResultMatch) {
      map->families.emplace_back(reinterpret_cast<const char*>(family));
    }
  }
  if (map->families.empty()) return absl::InvalidArgumentError("none of the fonts has a family name");
  return std::unique_ptr<Fonts>(new Fonts(std::move(map)));
}

Fonts::Fonts(std::unique_ptr<Map> map) : map_(std::move(map)), default_family_(map_->families.front()) {}
Fonts::~Fonts() = default;

bool Fonts::HasFamily(const std::string& family) const {
  return std::find(map_->families.begin(), map_->families.end(), family) != map_->families.end();
}

int Fonts::CountUnknownGlyphs(const std::string& text) const {
  const GObjectPtr<PangoContext> context = NewContext(*map_, text);
  const GObjectPtr<PangoLayout> layout(pango_layout_new(context.get()));
  PangoFontDescription* description = pango_font_description_new();
  pango_font_description_set_family(description, map_->FamiliesFor(default_family_, LanguageOf(text)).c_str());
  pango_layout_set_font_description(layout.get(), description);
  pango_font_description_free(description);
  pango_layout_set_text(layout.get(), text.data(), static_cast<int>(text.size()));
  return pango_layout_get_unknown_glyphs_count(layout.get());
}

}  // namespace storyfarm::page
