#include "tools/storyctl/fonts.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/base/program_folder.h"

namespace storyfarm::storyctl {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> FontsIn(base::Env& env, const std::string& folder) {
  std::vector<std::string> fonts;
  const auto names = env.List(folder);
  if (!names.ok()) return fonts;  // not this place, then
  for (const std::string& name : *names) {
    if (absl::EndsWith(name, ".otf") || absl::EndsWith(name, ".ttf")) fonts.push_back(base::JoinPath(folder, name));
  }
  // The regular face first: it is the default of captions.
  std::stable_partition(fonts.begin(), fonts.end(),
                        [](const std::string& path) { return absl::StrContains(path, "Regular"); });
  return fonts;
}

}  // namespace

std::vector<std::string> ShippedFonts(const Context& context) {
  std::vector<fs::path> places;
  if (const std::string share = context.variables("STORYFARM_SHARE"); !share.empty()) places.emplace_back(share);
  if (const fs::path bin = base::ProgramFolder(); !bin.empty()) {
    places.push_back(bin.parent_path() / "share" / "storyfarm");
  }
  places.emplace_back(STORYFARM_DEPLOY_DIR);
  for (const fs::path& place : places) {
    std::vector<std::string> fonts = FontsIn(context.env, (place / "examples" / "fonts").string());
    if (!fonts.empty()) return fonts;
  }
  return {};
}

absl::StatusOr<page::FontChoice> FontsFor(const Context& context, const farm::v1::Story& story) {
  std::vector<std::string> texts = {story.title(), story.author()};
  for (const auto& chapter : story.chapters()) {
    texts.push_back(chapter.title());
    for (const auto& panel : chapter.panels()) texts.push_back(panel.caption());
  }
  auto choice = page::ChooseFonts(texts, ShippedFonts(context));
  if (choice.ok() && !choice->missing.empty()) {
    context.console.Warning(absl::StrCat("no font on this machine has ", absl::StrJoin(choice->missing, " "),
                                         ": captions will show boxes there; install one (such as fonts-noto-cjk)"));
  }
  return choice;
}

}  // namespace storyfarm::storyctl
