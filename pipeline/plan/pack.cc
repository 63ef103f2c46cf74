#include "pipeline/plan/pack.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/base/digest.h"
#include "pipeline/plan/definition.h"
#include "pipeline/plan/settings.h"
#include "pipeline/plan/work.h"

namespace storyfarm::plan {
namespace {

using farm::v1::IdentityTask;
using farm::v1::JobSpec;
using farm::v1::PackManifest;
using farm::v1::RenderSettings;

void AddSettings(const RenderSettings& settings, Definition* definition) {
  definition->Number("steps", settings.steps());
  definition->Real("guidance_scale", settings.guidance_scale());
  definition->Text("scheduler", SchedulerName(settings.scheduler()));
  definition->Text("scheduler_config", settings.scheduler_config());
  if (settings.has_freeu()) {
    definition->Real("s1", settings.freeu().s1());
    definition->Real("s2", settings.freeu().s2());
    definition->Real("b1", settings.freeu().b1());
    definition->Real("b2", settings.freeu().b2());
  }
  const farm::v1::Gate& gate = settings.gate();
  definition->Real("gate.before", gate.before());
  definition->Real("gate.after", gate.after());
  if (gate.has_switch_step()) definition->Number("gate.switch_step", gate.switch_step());
  if (gate.has_switch_fraction()) definition->Real("gate.switch_fraction", gate.switch_fraction());
  definition->Text("noise", NoiseName(settings.noise()));
  definition->Number("seed", settings.seed());
  for (const double rate : settings.token_rate()) definition->Real("token_rate", rate);
  definition->Number("width", settings.width());
  definition->Number("height", settings.height());
  definition->Text("dtype", DtypeName(settings.dtype()));
  definition->Number("reproducible", settings.reproducible() ? 1 : 0);
  if (settings.int8_weights() && !settings.reproducible()) definition->Number("int8_weights", 1);
}

bool SameFreeU(const RenderSettings& a, const RenderSettings& b) {
  if (a.has_freeu() != b.has_freeu()) return false;
  return a.freeu().s1() == b.freeu().s1() && a.freeu().s2() == b.freeu().s2() && a.freeu().b1() == b.freeu().b1() &&
         a.freeu().b2() == b.freeu().b2();
}

// The switch of a gate in words of the story.
std::string SwitchText(const farm::v1::Gate& gate) {
  if (gate.has_switch_step()) return absl::StrCat(gate.switch_step());
  return absl::StrCat(gate.switch_fraction(), " of the steps");
}

std::string GateText(const farm::v1::Gate& gate) {
  return absl::StrCat("before ", gate.before(), ", after ", gate.after(), ", switch ", SwitchText(gate));
}

std::string FreeUText(const RenderSettings& settings) {
  if (!settings.has_freeu()) return "off";
  const farm::v1::FreeU& freeu = settings.freeu();
  return absl::StrCat("s1 ", freeu.s1(), ", s2 ", freeu.s2(), ", b1 ", freeu.b1(), ", b2 ", freeu.b2());
}

uint64_t BytesOf(const PackManifest& pack) {
  uint64_t bytes = 0;
  std::set<std::string> seen;
  const auto add = [&](const farm::v1::BlobRef& blob) {
    if (!blob.digest().empty() && seen.insert(blob.digest()).second) bytes += blob.size_bytes();
  };
  for (const farm::v1::BlobRef& step : pack.bank().steps()) add(step);
  for (const farm::v1::PackFrame& frame : pack.frames()) {
    add(frame.image());
    add(frame.latents());
  }
  return bytes;
}

double LargestRate(const RenderSettings& settings) {
  const auto& rates = settings.token_rate();
  return rates.empty() ? 1 : *std::max_element(rates.begin(), rates.end());
}
double SmallestRate(const RenderSettings& settings) {
  const auto& rates = settings.token_rate();
  return rates.empty() ? 1 : *std::min_element(rates.begin(), rates.end());
}

}  // namespace

std::string PackDefinition(const JobSpec& job, const IdentityTask& task) {
  const RenderSettings& settings = job.story().settings();
  Definition definition("storyfarm pack 1");
  definition.Number("method", kPackMethodVersion);
  definition.Number("gate_seed", kPackGateSeed);
  definition.Text("model", job.model().digest());
  definition.Text("character", job.story().characters(static_cast<int>(task.character())).key());
  AddSettings(settings, &definition);
  for (const farm::v1::Frame& frame : IdentityFrames(job, task)) {
    definition.Number("frame.hidden", frame.hidden() ? 1 : 0);
    definition.Text("frame.id", frame.id());
    definition.Text("frame.prompt", frame.prompt());
    if (frame.has_negative_prompt()) definition.Text("frame.negative_prompt", frame.negative_prompt());
    definition.Number("frame.seed", frame.seed());
  }
  return definition.Take();
}

std::string PackKey(const JobSpec& job, const IdentityTask& task) {
  return base::Digest::Of(PackDefinition(job, task)).Bytes();
}

std::string ShortKey(absl::string_view key) {
  return absl::BytesToHexString(key.substr(0, std::min(key.size(), kShownKeyDigits / 2)));
}

bool ReadsAsKey(absl::string_view text) {
  return text.size() >= kLeastKeyDigits && text.size() <= 2 * base::Digest::kBytes &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return absl::ascii_isxdigit(c); });
}

bool KeyBegins(absl::string_view key, absl::string_view digits) {
  return absl::StartsWith(absl::BytesToHexString(key), absl::AsciiStrToLower(digits));
}

std::string WrongPackName(absl::string_view name) {
  const bool good = !name.empty() && name.size() <= kPackNameBytes &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
                    });
  if (!good) {
    return absl::StrCat("\"", name, "\" is no name for a pack: 1 to ", kPackNameBytes,
                        " letters, digits, dots, underscores and hyphens are");
  }
  if (ReadsAsKey(name)) {
    return absl::StrCat("\"", name, "\" reads as the beginning of a key: put a letter beyond f into it, or a hyphen");
  }
  return "";
}

PackManifest MakePack(const JobView& view, uint32_t number, const farm::v1::IdentityResult& result) {
  const JobSpec& job = view.spec();
  const IdentityTask& task = job.identities(static_cast<int>(number));
  const farm::v1::Character& character = job.story().characters(static_cast<int>(task.character()));
  PackManifest pack;
  pack.set_key(task.pack_key());
  pack.set_character(character.name());
  pack.set_description(character.description());
  pack.set_model(job.model().name());
  pack.set_model_digest(job.model().digest());
  *pack.mutable_settings() = job.story().settings();
  *pack.mutable_bank() = result.bank();
  pack.mutable_bank()->clear_character();
  for (const farm::v1::Frame& frame : IdentityFrames(view, task)) {
    farm::v1::PackFrame& kept = *pack.add_frames();
    kept.set_prompt(frame.prompt());
    kept.set_hidden(frame.hidden());
    if (frame.hidden()) continue;
    const auto made = std::find_if(result.frames().begin(), result.frames().end(),
                                   [&](const farm::v1::FrameResult& each) { return each.panel() == frame.panel(); });
    if (made == result.frames().end()) continue;
    *kept.mutable_image() = made->image();
    if (made->has_latents()) *kept.mutable_latents() = made->latents();
    *kept.mutable_warnings() = made->warnings();
  }
  pack.set_size_bytes(BytesOf(pack));
  pack.set_render_ms(result.render_ms());
  *pack.mutable_plan() = result.plan();
  pack.set_job_id(job.job_id());
  pack.set_title(job.story().title());
  return pack;
}

std::optional<farm::v1::IdentityResult> ResultFromPack(const IdentityTask& task, const PackManifest& pack) {
  farm::v1::IdentityResult result;
  *result.mutable_bank() = pack.bank();
  result.mutable_bank()->set_character(task.character());
  if (!task.pack().empty()) return result;
  if (pack.frames_size() != task.panels_size() + task.hidden_prompts_size()) return std::nullopt;
  for (int i = 0; i < task.panels_size(); ++i) {
    const farm::v1::PackFrame& kept = pack.frames(i);
    if (kept.image().digest().empty()) return std::nullopt;
    farm::v1::FrameResult& frame = *result.add_frames();
    frame.set_panel(task.panels(i));
    *frame.mutable_image() = kept.image();
    if (kept.has_latents()) *frame.mutable_latents() = kept.latents();
    *frame.mutable_warnings() = kept.warnings();
  }
  return result;
}

std::string WhyPackDoesNotFit(const PackManifest& pack, const farm::v1::ModelManifest& model,
                              const RenderSettings& settings) {
  if (pack.model_digest() != model.digest()) {
    return absl::StrCat("it was made with model ", pack.model(), ", and the story is drawn with ", model.name(),
                        pack.model() == model.name() ? ", whose files are others" : "",
                        ": a bank serves the model alone that made it");
  }
  std::vector<std::string> differ;
  const RenderSettings& made = pack.settings();
  const auto compare = [&differ](const char* key, const std::string& pack_has, const std::string& story_has) {
    if (pack_has != story_has) differ.push_back(absl::StrCat(key, " ", pack_has, ", not ", story_has));
  };
  compare("steps", absl::StrCat(made.steps()), absl::StrCat(settings.steps()));
  compare("scheduler", SchedulerName(made.scheduler()), SchedulerName(settings.scheduler()));
  if (made.scheduler_config() != settings.scheduler_config()) differ.push_back("another scheduler_config");
  if (made.guidance_scale() != settings.guidance_scale()) {
    differ.push_back(absl::StrCat("guidance_scale ", made.guidance_scale(), ", not ", settings.guidance_scale()));
  }
  if (!SameFreeU(made, settings)) {
    differ.push_back(absl::StrCat("freeu ", FreeUText(made), ", not ", FreeUText(settings)));
  }
  if (made.gate().SerializeAsString() != settings.gate().SerializeAsString()) {
    differ.push_back(absl::StrCat("gate ", GateText(made.gate()), ", not ", GateText(settings.gate())));
  }
  if (differ.empty()) return "";
  return absl::StrCat("it was made with ", absl::StrJoin(differ, "; "),
                      ": give the story the settings of the pack, or name another one");
}

uint32_t CountedFrames(const PackManifest& pack, const RenderSettings& settings) {
  const RenderSettings& made = pack.settings();
  const double own = static_cast<double>(settings.width()) * settings.height() * SmallestRate(settings);
  const double theirs = static_cast<double>(made.width()) * made.height() * LargestRate(made);
  const double frames = pack.bank().identity_frames() * (own > 0 ? theirs / own : 1);
  return static_cast<uint32_t>(std::max(1.0, std::ceil(frames - 1e-9)));
}

}  // namespace storyfarm::plan
