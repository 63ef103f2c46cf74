#include "pipeline/plan/settings.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace storyfarm::plan {
namespace {

using farm::v1::ModelProfile;
using farm::v1::Problem;
using farm::v1::RenderSettings;

void AddProblem(const std::string& key, std::string message, std::vector<Problem>* problems) {
  Problem problem;
  problem.set_field(absl::StrCat("settings.", key));
  problem.set_message(std::move(message));
  problems->push_back(std::move(problem));
}

void ResolveGate(farm::v1::Gate* gate) {
  if (!gate->has_before()) gate->set_before(kDefaultGateBefore);
  if (!gate->has_after()) gate->set_after(kDefaultGateAfter);
  if (gate->at_case() == farm::v1::Gate::AT_NOT_SET) gate->set_switch_fraction(kDefaultGateSwitchFraction);
}

void ResolveFreeU(RenderSettings* settings) {
  if (settings->freeu().off()) {
    settings->clear_freeu();
    return;
  }
  farm::v1::FreeU* freeu = settings->mutable_freeu();
  if (!freeu->has_s1()) freeu->set_s1(kDefaultFreeUS1);
  if (!freeu->has_s2()) freeu->set_s2(kDefaultFreeUS2);
  if (!freeu->has_b1()) freeu->set_b1(kDefaultFreeUB1);
  if (!freeu->has_b2()) freeu->set_b2(kDefaultFreeUB2);
}

void CheckConsistency(const RenderSettings& settings, const ModelProfile& model, std::vector<Problem>* problems) {
  if (!settings.consistency()) return;
  const int grids = ConsistentGrids(model);
  if (grids == 0) {
    AddProblem("consistency",
               "this model has no self-attention in its up blocks, which is where characters are kept alike; "
               "set consistency to off, or use another model",
               problems);
    return;
  }
  if (settings.token_rate_size() > 1 && settings.token_rate_size() != grids) {
    AddProblem("token_rate",
               absl::StrFormat("%d numbers, but this model has %d grids with identity state; give one number, or one "
                               "for each grid from the smallest up",
                               settings.token_rate_size(), grids),
               problems);
  }
}

}  // namespace

int ConsistentGrids(const ModelProfile& model) {
  return static_cast<int>(std::count_if(model.levels().begin(), model.levels().end(),
                                        [](const farm::v1::UnetLevel& level) { return level.csa_layers() > 0; }));
}

std::string CheckEdge(absl::string_view name, uint32_t pixels, const ModelProfile& model) {
  const uint32_t multiple = std::max(1u, model.size_multiple());
  if (pixels >= multiple && pixels % multiple == 0) return "";
  const uint32_t below = pixels / multiple * multiple;
  const uint32_t above = below + multiple;
  const std::string nearest =
      below == 0 ? absl::StrCat("the smallest is ", above) : absl::StrCat("the nearest are ", below, " and ", above);
  return absl::StrCat(name, " ", pixels, " is not a multiple of ", multiple, " pixels, which this model needs; ",
                      nearest);
}

RenderSettings ResolveSettings(const RenderSettings& written, const ModelProfile& model,
                               std::vector<Problem>* problems) {
  RenderSettings settings = written;
  if (settings.width() == 0) settings.set_width(model.native_width());
  if (settings.height() == 0) settings.set_height(model.native_height());
  if (settings.steps() == 0) settings.set_steps(kDefaultSteps);
  if (!settings.has_guidance_scale()) settings.set_guidance_scale(kDefaultGuidanceScale);
  if (settings.scheduler() == farm::v1::SCHEDULER_UNSPECIFIED) settings.set_scheduler(kDefaultScheduler);
  if (!settings.has_seed()) settings.set_seed(kDefaultSeed);
  if (settings.id_length() == 0) settings.set_id_length(kDefaultIdLength);
  if (settings.token_rate().empty()) settings.add_token_rate(kDefaultTokenRate);
  ResolveGate(settings.mutable_gate());
  if (settings.noise() == farm::v1::NOISE_UNSPECIFIED) settings.set_noise(kDefaultNoise);
  if (!settings.has_consistency()) settings.set_consistency(kDefaultConsistency);
  ResolveFreeU(&settings);

  const std::string width = CheckEdge("width", settings.width(), model);
  if (!width.empty()) AddProblem("width", width, problems);
  const std::string height = CheckEdge("height", settings.height(), model);
  if (!height.empty()) AddProblem("height", height, problems);
  CheckConsistency(settings, model, problems);
  return settings;
}

std::string SchedulerName(farm::v1::Scheduler scheduler) {
  switch (scheduler) {
    case farm::v1::DDIM:
      return "ddim";
    case farm::v1::EULER:
      return "euler";
    case farm::v1::EULER_ANCESTRAL:
      return "euler_a";
    case farm::v1::DPMPP_2M_KARRAS:
      return "dpmpp_2m_karras";
    default:
      return "unspecified";
  }
}

std::string NoiseName(farm::v1::Noise noise) { return noise == farm::v1::NOISE_SHARED ? "shared" : "panel"; }

std::string DtypeName(farm::v1::Dtype dtype) {
  switch (dtype) {
    case farm::v1::FP32:
      return "fp32";
    case farm::v1::FP16:
      return "fp16";
    case farm::v1::BF16:
      return "bf16";
    default:
      return "auto";
  }
}

std::vector<SettingDescription> SettingDescriptions() {
  const std::string gate = absl::StrCat("before: ", kDefaultGateBefore, ", after: ", kDefaultGateAfter,
                                        ", switch: ", kDefaultGateSwitchFraction);
  const std::string freeu = absl::StrCat("s1: ", kDefaultFreeUS1, ", s2: ", kDefaultFreeUS2, ", b1: ", kDefaultFreeUB1,
                                         ", b2: ", kDefaultFreeUB2);
  return {
      {"width", "pixels, a multiple of what the model needs (32 for SDXL)", "the model's own",
       "Width of a picture. A panel may have its own."},
      {"height", "pixels, likewise", "the model's own", "Height of a picture. A panel may have its own."},
      {"steps", "1 to 1000", absl::StrCat(kDefaultSteps), "Denoising steps of every picture."},
      {"guidance_scale", "0 to 100", absl::StrCat(kDefaultGuidanceScale),
       "How strictly pictures follow the text; 1 or less turns guidance off and halves the work."},
      {"scheduler", "`ddim`, `euler`, `euler_a`, `dpmpp_2m_karras`", SchedulerName(kDefaultScheduler),
       "How noise becomes a picture, step by step."},
      {"scheduler_config", "a map", "none", "Replaces keys of the model's `scheduler_config.json`."},
      {"seed", "0 to 2^64 - 1", absl::StrCat(kDefaultSeed),
       "The same story with the same seed gives the same pictures. A panel may have its own."},
      {"id_length", "1 to 4", absl::StrCat(kDefaultIdLength),
       "Panels of each character that fix how it looks. More keep it closer, and take longer and more memory."},
      {"token_rate", "above 0, up to 1; or a list, one for each grid from the smallest up",
       absl::StrCat(kDefaultTokenRate), "Share of those panels' details that the others see."},
      {"gate", "`before`, `after`: 0 to 1; `switch`: a step, or a fraction of the steps", gate,
       "When layers look at the character: where a random number exceeds `before`, or `after` from the switch on."},
      {"noise", "`panel`, `shared`", NoiseName(kDefaultNoise),
       "Whether each panel starts from noise of its own or all from the same."},
      {"consistency", "`on`, `off`", kDefaultConsistency ? "on" : "off", "Whether characters are kept alike at all."},
      {"freeu", "`s1`, `s2`, `b1`, `b2`, or `off`", freeu,
       "Reweighs the UNet's skips (s) and backbone (b): cleaner forms."},
      {"style", "`prompt` with `{prompt}` in it, `negative`", "none",
       "A template around every panel's text, and what goes before the negative prompt."},
      {"negative_prompt", "text", "none", "What the pictures should not show."},
      {"dtype", "`fp32`, `fp16`, `bf16`", "fp16 on a GPU, fp32 on a CPU", "Number format of the computation."},
      {"int8_weights", "`true`, `false`", "false",
       "Whether the UNet's weights may be rounded to 8 bits on a device that is faster with it; else they are exact, and "
       "where they don't fit, read from the file as they are used."},
      {"reproducible", "`true`, `false`", "false",
       "The same bytes on any machine of one kind, at some cost in speed: one frame at a time, one thread on a CPU."},
  };
}

std::string SettingsMarkdown() {
  std::string table = "| Key | Values | Default | Meaning |\n|---|---|---|---|\n";
  for (const SettingDescription& row : SettingDescriptions()) {
    absl::StrAppend(&table, "| `", row.key, "` | ", row.values, " | ", row.standard, " | ", row.meaning, " |\n");
  }
  return table;
}

}  // namespace storyfarm::plan
