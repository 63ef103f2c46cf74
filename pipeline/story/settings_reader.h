// Settings from a node of a document: behind settings.h and behind a story's `settings`.
#ifndef STORYFARM_PIPELINE_STORY_SETTINGS_READER_H_
#define STORYFARM_PIPELINE_STORY_SETTINGS_READER_H_

#include <string>
#include <string_view>

#include "farm/v1/settings.pb.h"
#include "pipeline/story/document.h"
#include "pipeline/story/draft.h"
#include "pipeline/story/source.h"

namespace storyfarm::story {

// Puts the keys of the map `node` over `settings`, as settings.h says, and returns the texts among them as they are
// written. `path` is the fields' prefix, "settings".
SettingsTexts ReadSettings(const Node& node, const std::string& path, farm::v1::RenderSettings& settings,
                           ProblemList& problems);
// The same for a settings file. Of `source`, which is read from `bytes`, places are made.
SettingsTexts ReadSettingsFile(std::string_view bytes, Source& source, farm::v1::RenderSettings& settings,
                               ProblemList& problems);

// The node as JSON text with sorted keys: equal values give equal bytes. Values that JSON cannot say are problems.
std::string NodeToJson(const Node& node, const std::string& field, ProblemList& problems);

}  // namespace storyfarm::story

#endif  // STORYFARM_PIPELINE_STORY_SETTINGS_READER_H_
