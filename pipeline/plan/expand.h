// A story as a graph of tasks: what has to be rendered, and what waits for what.
#ifndef STORYFARM_PIPELINE_PLAN_EXPAND_H_
#define STORYFARM_PIPELINE_PLAN_EXPAND_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "farm/v1/client.pb.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/story.pb.h"

namespace storyfarm::plan {

// Limits of one job; the core's state per pending frame is sized for the first.
inline constexpr uint32_t kMaxPanels = 20'000;
inline constexpr uint32_t kMaxCharacters = 256;        // of a story
inline constexpr uint32_t kMaxCharactersInPanel = 16;  // a read pass holds a step of each one's bank

struct Expansion {
  // Story with its settings resolved, model, identities, frame_sets, pages and warnings. Who it is for, its key,
  // digest, fonts and time are the caller's to fill in. Of use only where ok().
  farm::v1::JobSpec job;
  std::vector<farm::v1::Problem> problems;  // errors and warnings, in the story's order

  bool ok() const {
    for (const auto& problem : problems) {
      if (!problem.warning()) return false;
    }
    return true;
  }
};

// Expands `story` for `model`, which carries its profile. Every panel is rendered exactly once: by the identity task of
// the character that owns it as an identity panel, or as a frame of a frame set.
//
// Identity tasks (method.md 2.4), where consistency is on and a character is read by some panel or has panels of its
// own:
//   - with identity_prompts: hidden frames of the first id_length of them;
//   - else its first id_length panels that name exactly that character, fewer where there are fewer;
//   - else, where a panel with others reads it: one hidden frame of its description.
// Panels whose size differs from the story's do not serve as identity frames: a write pass has one size.
Expansion ExpandStory(const farm::v1::Story& story, const farm::v1::ModelManifest& model);

// The model's prompt for a text under a style: `{prompt}` replaced, or the text itself where there is no template.
std::string StyledPrompt(const farm::v1::Style& style, absl::string_view text);

// The negative prompt under a style: prefix, a space and the story's own, either of which may be missing. Returns false
// where there is none at all (then the model decides between zeros and an empty text).
bool StyledNegative(const farm::v1::RenderSettings& settings, std::string* negative);

// Panels counted through all chapters: number p of a job is the panel FindPanel returns, null where there is none.
const farm::v1::Panel* FindPanel(const farm::v1::Story& story, uint32_t number);
uint32_t PanelCount(const farm::v1::Story& story);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_EXPAND_H_
