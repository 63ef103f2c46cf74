// What a render's settings may be and what they are where nobody says. The table here is the only place where defaults
// stand: help texts and deploy/docs/settings.md are made from it.
#ifndef STORYFARM_PIPELINE_PLAN_SETTINGS_H_
#define STORYFARM_PIPELINE_PLAN_SETTINGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "farm/v1/client.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/settings.pb.h"

namespace storyfarm::plan {

// One key of a story's `settings`, for people.
struct SettingDescription {
  absl::string_view key;
  absl::string_view type;
  absl::string_view standard;  // what it is where the story is silent
  absl::string_view range;
  absl::string_view meaning;
};

// Every key, in the order in which the documentation lists them.
absl::Span<const SettingDescription> SettingDescriptions();

// The table as Markdown, as it stands in deploy/docs/settings.md.
std::string SettingsMarkdown();

// Limits of one story. Bounds keep any one input's cost finite; each is far above what a book needs.
inline constexpr uint32_t kMaxSteps = 1000;         // training timesteps of every SDXL scheduler
inline constexpr uint32_t kMaxIdLength = 4;         // as in StoryDiffusion; a step of the bank grows with it
inline constexpr uint32_t kMaxEdgePixels = 4096;    // 16 times SDXL's own area
inline constexpr double kMaxGuidanceScale = 100.0;  // beyond any use

// Completes what a story gave: every field that it left out gets its default, sizes the model's own. The result has no
// unspecified field but dtype (the planner chooses) and those whose absence means something (freeu, negative_prompt).
// Every value out of range is one problem with field "settings.KEY", which says what would do; the result is of use
// only when nothing was added to `problems`. `problems` must not be null.
farm::v1::RenderSettings ResolveSettings(const farm::v1::RenderSettings& given, const farm::v1::ModelProfile& model,
                                         std::vector<farm::v1::Problem>* problems);

// Checks an edge of a picture, of the story or of one panel, against the model: empty where it is right, else a
// sentence that names the nearest edge that would be.
std::string CheckEdge(absl::string_view name, uint32_t pixels, const farm::v1::ModelProfile& model);

// "ddim", "euler", "euler_a", "dpmpp_2m_karras": as settings and messages spell it.
absl::string_view SchedulerName(farm::v1::Scheduler scheduler);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_SETTINGS_H_
