#include <algorithm>

#include "absl/strings/str_cat.h"
#include "coordinator/core/job.h"

namespace storyfarm::coordinator {
namespace {

absl::Status Bad(const std::string& what) { return absl::InvalidArgumentError(what); }

// Of a job with text tasks, each identity that has frames and each frame of a set reads exactly one of them.
absl::Status CheckTexts(const farm::v1::JobSpec& spec, size_t panels) {
  if (spec.texts().empty()) return absl::OkStatus();
  std::vector<uint8_t> open_identities, open_panels(panels, 0);
  for (const auto& identity : spec.identities()) open_identities.push_back(identity.pack().empty() ? 1 : 0);
  for (const auto& set : spec.frame_sets()) {
    for (uint32_t panel : set.panels()) open_panels[panel] = 1;
  }
  for (const auto& text : spec.texts()) {
    if (text.key().size() != 32) return Bad("the key of a text task must be a SHA-256");
    const auto claim = [](const auto& numbers, std::vector<uint8_t>& open) {
      for (int i = 0; i < numbers.size(); ++i) {
        if (i > 0 && numbers[i] <= numbers[i - 1]) return false;
        if (numbers[i] >= open.size() || open[numbers[i]]-- != 1) return false;
      }
      return true;
    };
    if (!claim(text.identities(), open_identities) || !claim(text.panels(), open_panels)) {
      return Bad("a text task names what another one does, what reads none, or not in order");
    }
  }
  for (const auto* open : {&open_identities, &open_panels}) {
    if (std::count(open->begin(), open->end(), 1) > 0) return Bad("a text task lacks prompts");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Job::Validate(const farm::v1::JobSpec& spec, uint32_t panels, const Limits& limits) {
  if (spec.job_id().empty() || spec.job_id().size() > 64) return Bad("the job's id must have 1 to 64 bytes");
  if (spec.idempotency_key().empty() || spec.idempotency_key().size() > 128) {
    return Bad("the idempotency key must have 1 to 128 bytes");
  }
  if (spec.priority() > kMostPriority) return Bad(absl::StrCat("a priority is 1 to ", kMostPriority));
  if (spec.request_digest().size() != 32) return Bad("the request's digest must be a SHA-256");
  if (const size_t bytes = spec.ByteSizeLong(); bytes > limits.spec_bytes) {
    return Bad(absl::StrCat("the story expands to ", bytes, " bytes, at most ", limits.spec_bytes,
                            " are taken: split it into several"));
  }
  if (panels == 0) return Bad("the story has no panels");
  if (panels > limits.frames_a_job) {
    return Bad(absl::StrCat("the story has ", panels, " panels, at most ", limits.frames_a_job,
                            " are taken: split it into several"));
  }
  const uint32_t characters = spec.story().characters_size();
  std::vector<uint8_t> rendered(panels, 0);
  auto claim = [&rendered](uint32_t panel) { return panel < rendered.size() && rendered[panel]++ == 0; };
  for (const auto& identity : spec.identities()) {
    if (identity.character() >= characters) return Bad("an identity task names a character that the story lacks");
    const size_t key_bytes = identity.pack_key().size();
    if (key_bytes != 32 && (key_bytes != 0 || !identity.pack().empty())) {
      return Bad("the key of an identity's pack must be a SHA-256");
    }
    if (!identity.pack().empty() && identity.panels_size() + identity.hidden_prompts_size() > 0) {
      return Bad("an identity task takes a pack and has frames of its own");
    }
    for (uint32_t panel : identity.panels()) {
      if (!claim(panel)) return Bad(absl::StrCat("panel ", panel, " is rendered by two tasks, or does not exist"));
    }
  }
  for (const auto& set : spec.frame_sets()) {
    for (int i = 0; i < set.identities_size(); ++i) {
      if (set.identities(i) >= static_cast<uint32_t>(spec.identities_size())) {
        return Bad("a frame set reads an identity task that the job lacks");
      }
      for (int j = 0; j < i; ++j) {
        if (set.identities(i) == set.identities(j)) return Bad("a frame set names an identity task twice");
      }
    }
    for (int i = 0; i < set.panels_size(); ++i) {
      if (!claim(set.panels(i))) {
        return Bad(absl::StrCat("panel ", set.panels(i), " is rendered by two tasks, or does not exist"));
      }
      if (i > 0 && set.panels(i) <= set.panels(i - 1)) return Bad("a frame set's panels are not ascending");
    }
  }
  for (uint32_t panel = 0; panel < panels; ++panel) {
    if (rendered[panel] == 0) return Bad(absl::StrCat("no task renders panel ", panel));
  }
  if (absl::Status texts = CheckTexts(spec, panels); !texts.ok()) return texts;
  std::vector<uint8_t> composed(panels, 0);
  for (int page = 0; page < spec.pages_size(); ++page) {
    const bool last = page + 1 == spec.pages_size();
    if (spec.pages(page).book() && !last) return Bad("the book must be the last page task");
    std::vector<uint8_t> here(panels, 0);
    for (uint32_t panel : spec.pages(page).panels()) {
      if (panel >= panels || here[panel]++ > 0) {
        return Bad(absl::StrCat("page task ", page, " shows panel ", panel, " twice, or it does not exist"));
      }
      if (!spec.pages(page).book() && composed[panel]++ > 0) {
        return Bad(absl::StrCat("panel ", panel, " is on two pages"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace storyfarm::coordinator
