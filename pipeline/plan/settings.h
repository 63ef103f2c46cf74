// Defaults of a render's settings, and what a model's own shape asks of them. The table here is the only place where
// defaults stand: help texts and deploy/docs/settings.md are made from it. Bounds that hold for every model are
// pipeline/story's, which reads the text.
#ifndef STORYFARM_PIPELINE_PLAN_SETTINGS_H_
#define STORYFARM_PIPELINE_PLAN_SETTINGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/problem.pb.h"
#include "farm/v1/settings.pb.h"

namespace storyfarm::plan {

// The low-memory flow of StoryDiffusion, but for the gate's switch: a share of the steps (its published 20 of 50), so
// that it keeps its meaning when the number of steps changes.
inline constexpr uint32_t kDefaultSteps = 35;
inline constexpr double kDefaultGuidanceScale = 5.0;
inline constexpr farm::v1::Scheduler kDefaultScheduler = farm::v1::DDIM;
inline constexpr uint64_t kDefaultSeed = 0;
inline constexpr uint32_t kDefaultIdLength = 1;
inline constexpr double kDefaultTokenRate = 0.5;
inline constexpr double kDefaultGateBefore = 0.3;
inline constexpr double kDefaultGateAfter = 0.1;
inline constexpr double kDefaultGateSwitchFraction = 0.4;
inline constexpr farm::v1::Noise kDefaultNoise = farm::v1::NOISE_PANEL;
inline constexpr bool kDefaultConsistency = true;
inline constexpr double kDefaultFreeUS1 = 0.6;
inline constexpr double kDefaultFreeUS2 = 0.4;
inline constexpr double kDefaultFreeUB1 = 1.1;
inline constexpr double kDefaultFreeUB2 = 1.2;

// Completes what a story gave: every field that it left out gets its default, sizes the model's own. In the result no
// field is unspecified but dtype (the planner chooses) and those whose absence means something: freeu (off) and
// negative_prompt. What does not suit the model becomes a problem with field "settings.KEY" that says what would do;
// the result is of use only where no error was added. `problems` must not be null.
farm::v1::RenderSettings ResolveSettings(const farm::v1::RenderSettings& written, const farm::v1::ModelProfile& model,
                                         std::vector<farm::v1::Problem>* problems);

// Checks an edge of a picture against the model: empty where it is right, else a sentence that names the nearest edges
// that would be. `name`: "width" or "height".
std::string CheckEdge(absl::string_view name, uint32_t pixels, const farm::v1::ModelProfile& model);

// Grids of the UNet that carry identity state: how many numbers a token_rate may have, apart from one.
int ConsistentGrids(const farm::v1::ModelProfile& model);

// One key of a story's `settings`, for people.
struct SettingDescription {
  std::string key;
  std::string values;    // what may be written
  std::string standard;  // what holds where the story is silent
  std::string meaning;
};
// Every key, in the order of the documentation.
std::vector<SettingDescription> SettingDescriptions();
// The same as the Markdown table that stands in deploy/docs/settings.md.
std::string SettingsMarkdown();

// As stories, messages and pictures' metadata spell them: "ddim", "euler", "euler_a", "dpmpp_2m_karras"; "panel",
// "shared"; "fp32", "fp16", "bf16" ("auto" where the planner chooses).
std::string SchedulerName(farm::v1::Scheduler scheduler);
std::string NoiseName(farm::v1::Noise noise);
std::string DtypeName(farm::v1::Dtype dtype);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_SETTINGS_H_
