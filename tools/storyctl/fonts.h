// Which fonts travel with a story, found where it is submitted.
#ifndef STORYFARM_TOOLS_STORYCTL_FONTS_H_
#define STORYFARM_TOOLS_STORYCTL_FONTS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "farm/v1/story.pb.h"
#include "pipeline/page/fonts.h"
#include "tools/storyctl/commands.h"

namespace storyfarm::storyctl {

// The font files that ship with the project: below $STORYFARM_SHARE, in share/storyfarm of the installed tree, or in
// the source tree that this program was built in. Empty where none is found: the system's fonts have to do then.
std::vector<std::string> ShippedFonts(const Context& context);

// Fonts for all that the story's pages show.
absl::StatusOr<page::FontChoice> FontsFor(const Context& context, const farm::v1::Story& story);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_FONTS_H_
