// The one reader of render settings: a story's `settings`, a `--settings` file, and the overrides of a submission.
#ifndef STORYFARM_PIPELINE_STORY_SETTINGS_H_
#define STORYFARM_PIPELINE_STORY_SETTINGS_H_

#include <string>
#include <string_view>
#include <vector>

#include "farm/v1/problem.pb.h"
#include "farm/v1/settings.pb.h"

namespace storyfarm::story {

// Bounds on numbers that hold for every model. What a model's own shape asks for, and defaults, are pipeline/plan's.
inline constexpr double kMaxGuidanceScale = 100;              // beyond any use
inline constexpr int kMinEdgePixels = 8;                      // one latent
inline constexpr int kMaxEdgePixels = 4096;                   // 16 times SDXL's own area
inline constexpr int kMaxSteps = 1000;                        // training timesteps of every SDXL scheduler
inline constexpr int kMaxIdLength = 4;                        // as in StoryDiffusion
inline constexpr int kMaxTokenRates = 8;                      // one a grid; SDXL has two
inline constexpr double kMaxFreeUFactor = 10;                 // published factors lie in 0.2 to 1.6
inline constexpr size_t kMaxSettingsBytes = size_t{1} << 20;  // a settings file

// Settings and everything that is wrong with them.
struct ParsedSettings {
  farm::v1::RenderSettings settings;  // `base` with the keys of the input put over it; of use only where ok()
  std::vector<farm::v1::Problem> problems;

  bool ok() const;  // no problem but warnings
};

// Parses a JSON or YAML map with the keys of a story's `settings` (deploy/docs/story.md). A key that is given replaces
// that of `base` as a whole (a `gate` with only `before` says nothing of `after`); one that is not stays as it is; null
// takes the key away, so that the default holds again. Empty input is an empty map. Never throws.
ParsedSettings ParseSettings(std::string_view bytes, const std::string& file_name,
                             const farm::v1::RenderSettings& base);

}  // namespace storyfarm::story

#endif  // STORYFARM_PIPELINE_STORY_SETTINGS_H_
