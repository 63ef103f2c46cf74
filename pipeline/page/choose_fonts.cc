#include <algorithm>
#include <map>
#include <set>

#include "absl/status/status.h"
#include "pipeline/page/font_map.h"
#include "pipeline/page/fonts.h"

namespace storyfarm::page {
namespace {

constexpr size_t kMaxMissing = 16;

// Characters that leave ink or space of their own; line ends and joiners need no glyph.
std::set<FcChar32> CharactersOf(const std::vector<std::string>& texts) {
  std::set<FcChar32> characters;
  for (const std::string& text : texts) {
    if (!g_utf8_validate(text.data(), static_cast<gssize>(text.size()), nullptr)) continue;
    for (const char* at = text.data(); at < text.data() + text.size(); at = g_utf8_next_char(at)) {
      const gunichar c = g_utf8_get_char(at);
      if (g_unichar_isgraph(c) && !g_unichar_iszerowidth(c)) characters.insert(c);
    }
  }
  return characters;
}

void RemoveCovered(const FcConfig* config, std::set<FcChar32>& characters) {
  const FcFontSet* faces = FcConfigGetFonts(const_cast<FcConfig*>(config), FcSetApplication);
  for (int i = 0; faces != nullptr && i < faces->nfont; ++i) {
    FcCharSet* covered = nullptr;
    if (FcPatternGetCharSet(faces->fonts[i], FC_CHARSET, 0, &covered) != FcResultMatch) continue;
    std::erase_if(characters, [covered](FcChar32 c) { return FcCharSetHasChar(covered, c) == FcTrue; });
  }
}

std::string Utf8Of(FcChar32 character) {
  char bytes[6];
  return std::string(bytes, static_cast<size_t>(g_unichar_to_utf8(character, bytes)));
}

// The system's scalable font files in the order in which fontconfig would choose them for a plain upright sans face in
// the texts' language, so that a Chinese caption gets the script's usual face and not, say, its heaviest.
absl::StatusOr<std::vector<std::string>> RankedFiles(FcConfig* system, const std::set<FcChar32>& wanted,
                                                     const std::string& language,
                                                     std::map<std::string, FcCharSetPtr>& coverage) {
  FcPatternPtr pattern(FcPatternCreate());
  FcCharSetPtr characters(FcCharSetCreate());
  for (const FcChar32 c : wanted) FcCharSetAddChar(characters.get(), c);
  FcPatternAddCharSet(pattern.get(), FC_CHARSET, characters.get());
  FcPatternAddString(pattern.get(), FC_FAMILY, reinterpret_cast<const FcChar8*>("sans-serif"));
  FcPatternAddString(pattern.get(), FC_LANG, reinterpret_cast<const FcChar8*>(language.c_str()));
  FcPatternAddInteger(pattern.get(), FC_WEIGHT, FC_WEIGHT_REGULAR);
  FcPatternAddInteger(pattern.get(), FC_SLANT, FC_SLANT_ROMAN);
  FcPatternAddBool(pattern.get(), FC_SCALABLE, FcTrue);
  FcConfigSubstitute(system, pattern.get(), FcMatchPattern);
  FcDefaultSubstitute(pattern.get());
  FcResult result = FcResultMatch;
  FcFontSetPtr sorted(FcFontSort(system, pattern.get(), FcFalse, nullptr, &result));
  if (sorted == nullptr) return absl::NotFoundError("fontconfig knows no fonts on this machine");
  std::vector<std::string> files;
  for (int i = 0; i < sorted->nfont; ++i) {
    FcChar8* path = nullptr;
    FcCharSet* covered = nullptr;
    FcBool scalable = FcFalse;
    FcBool color = FcFalse;
    const FcPattern* font = sorted->fonts[i];
    FcPatternGetBool(font, FC_SCALABLE, 0, &scalable);
    FcPatternGetBool(font, FC_COLOR, 0, &color);
    if (scalable != FcTrue || color == FcTrue || FcPatternGetString(font, FC_FILE, 0, &path) != FcResultMatch ||
        FcPatternGetCharSet(font, FC_CHARSET, 0, &covered) != FcResultMatch) {
      continue;
    }
    std::string file(reinterpret_cast<const char*>(path));
    FcCharSetPtr& all = coverage[file];
    if (all == nullptr) {
      files.push_back(file);
      all.reset(FcCharSetCopy(covered));
    } else {
      all.reset(FcCharSetUnion(all.get(), covered));
    }
  }
  return files;
}

size_t CountCovered(const FcCharSet* covered, const std::set<FcChar32>& wanted) {
  return static_cast<size_t>(std::count_if(wanted.begin(), wanted.end(),
                                           [covered](FcChar32 c) { return FcCharSetHasChar(covered, c) == FcTrue; }));
}

}  // namespace

absl::StatusOr<FontChoice> ChooseFonts(const std::vector<std::string>& texts, const std::vector<std::string>& shipped) {
  auto own = ConfigOf(shipped);
  if (!own.ok()) return own.status();
  FontChoice choice;
  choice.files = shipped;
  std::set<FcChar32> wanted = CharactersOf(texts);
  RemoveCovered(own->get(), wanted);
  if (wanted.empty()) return choice;

  std::string unserved;
  for (const FcChar32 c : wanted) unserved += Utf8Of(c);
  const FcConfigPtr system(FcInitLoadConfigAndFonts());
  std::map<std::string, FcCharSetPtr> coverage;
  std::vector<std::string> files;
  if (system != nullptr) {
    auto ranked = RankedFiles(system.get(), wanted, pango_language_to_string(LanguageOf(unserved)), coverage);
    if (ranked.ok()) files = *std::move(ranked);
  }
  // Greedy: the file that draws the most of what is left, the better ranked of equals.
  while (!wanted.empty() && choice.files.size() < kMaxFontFiles) {
    size_t most = 0;
    const std::string* best = nullptr;
    for (const std::string& file : files) {
      const size_t covered = CountCovered(coverage[file].get(), wanted);
      if (covered > most) {
        most = covered;
        best = &file;
      }
    }
    if (best == nullptr) break;
    choice.files.push_back(*best);
    const FcCharSet* covered = coverage[*best].get();
    std::erase_if(wanted, [covered](FcChar32 c) { return FcCharSetHasChar(covered, c) == FcTrue; });
  }
  for (const FcChar32 c : wanted) {
    if (choice.missing.size() < kMaxMissing) choice.missing.push_back(Utf8Of(c));
  }
  return choice;
}

}  // namespace storyfarm::page
