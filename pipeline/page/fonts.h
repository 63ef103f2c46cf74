// Which font files a story's pages need. Chosen where the story is submitted; the files travel with the job, so that a
// page does not depend on the machine that composes it.
#ifndef STORYFARM_PIPELINE_PAGE_FONTS_H_
#define STORYFARM_PIPELINE_PAGE_FONTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace storyfarm::page {

// Bounds on fonts: those of one job travel to every machine that composes a page.
inline constexpr size_t kMaxFontFiles = 8;
inline constexpr uint64_t kMaxFontBytes = uint64_t{64} << 20;  // one file; Noto Sans CJK's collection has 19 MB

struct FontChoice {
  std::vector<std::string> files;    // paths, those of `shipped` first, in order of preference
  std::vector<std::string> missing;  // characters of the texts, each UTF-8, that no font at hand can draw (at most 16)
};

// The shipped font files and, for characters that these lack, as few files of the system's fonts as cover the most.
// `texts`: all that pages show: captions, titles, the author. `shipped`: paths of font files. Asks the system's
// fontconfig only where the shipped fonts do not suffice. Errors: a shipped file is missing or no font.
absl::StatusOr<FontChoice> ChooseFonts(const std::vector<std::string>& texts, const std::vector<std::string>& shipped);

// Fonts from files and nothing else: no font of the machine can reach a page. One thread at a time.
class Fonts {
 public:
  // INVALID_ARGUMENT naming the file where one is missing, too large or no font, or where there is none at all.
  static absl::StatusOr<std::unique_ptr<Fonts>> Load(const std::vector<std::string>& files);
  ~Fonts();
  Fonts(const Fonts&) = delete;
  Fonts& operator=(const Fonts&) = delete;

  // Family of the first file: the face of captions where a page names none.
  const std::string& default_family() const { return default_family_; }
  bool HasFamily(const std::string& family) const;

  // Characters of `text` that no loaded font can draw. They appear as boxes.
  int CountUnknownGlyphs(const std::string& text) const;

  struct Map;  // Pango's font map over a configuration of its own
  const Map& map() const { return *map_; }

 private:
  explicit Fonts(std::unique_ptr<Map> map);

  std::unique_ptr<Map> map_;
  std::string default_family_;
};

}  // namespace storyfarm::page

#endif  // STORYFARM_PIPELINE_PAGE_FONTS_H_
