// A story as a graph of tasks: what has to be rendered, and what waits for what.
#ifndef STORYFARM_PIPELINE_PLAN_EXPAND_H_
#define STORYFARM_PIPELINE_PLAN_EXPAND_H_

#include <cstdint>
#include <string>
#include <vector>

#include "farm/v1/job.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/problem.pb.h"
#include "farm/v1/story.pb.h"
#include "pipeline/plan/pack.h"

namespace storyfarm::plan {

// Characters in one panel. Each one's bank of a step is held while the panel is read, and more than a handful blend.
inline constexpr int kMaxCharactersInPanel = 16;

// Pages where the story is silent: an A5 sheet at 210 dots an inch, six pictures on it.
inline constexpr uint32_t kDefaultPageColumns = 2;
inline constexpr uint32_t kDefaultPageRows = 3;
inline constexpr uint32_t kDefaultPageWidth = 1240;
inline constexpr farm::v1::CaptionPlace kDefaultCaptionPlace = farm::v1::CAPTION_UNDER;

struct Expansion {
  // Story with settings and page resolved, model, identities, frame_sets and pages. Its id, key, digest, fonts, time
  // and warnings are the caller's to fill in. Of use only where ok().
  farm::v1::JobSpec job;
  std::vector<farm::v1::Problem> problems;  // settings first, then in the story's order

  bool ok() const;  // no problem but warnings
};

// Expands `story`, as pipeline/story parsed it, for `model`, which carries its profile. Every panel is rendered exactly
// once: by the identity task of the character that it serves as an identity frame, or as a frame of one frame set.
//
// Identity tasks (method.md 2.4), in order of definition, where consistency is on:
//   - a character with identity_prompts: hidden frames of the first id_length of them, where some panel names it;
//   - else its first id_length panels that name exactly that character, fewer where there are fewer;
//   - else, where a panel with others names it: one hidden frame of its description.
// A panel of a size of its own is no identity frame: a write pass has one size. Where nobody else reads a character,
// the task still renders its panels.
// A character with `pack: NAME` takes that pack of `packs` and has no identity frames here; one that is not among them,
// can't be used, or was made with other settings than the story's is a problem.
Expansion ExpandStory(const farm::v1::Story& story, const farm::v1::ModelManifest& model, const NamedPacks& packs = {});

// The model's prompt for a text under a style: the template with `{prompt}` replaced, or the text where there is none.
std::string StyledPrompt(const farm::v1::Style& style, const std::string& text);

// Whether there is a negative prompt at all (else the model decides between zeros and an empty text), and which: the
// style's, a space, the story's own.
bool StyledNegative(const farm::v1::RenderSettings& settings, std::string* negative);

// Panel `number` of a story, counted through all chapters; null where there is none.
const farm::v1::Panel* FindPanel(const farm::v1::Story& story, uint32_t number);
uint32_t PanelCount(const farm::v1::Story& story);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_EXPAND_H_
