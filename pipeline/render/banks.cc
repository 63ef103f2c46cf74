#include "pipeline/render/banks.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/render/loaded_model.h"
#include "pipeline/sdxl/scheduler.h"

namespace storyfarm::render {
namespace {

// The shortest text that reads back as the same number.
std::string Exact(double value) {
  const std::string shorter = absl::StrFormat("%.15g", value);
  return std::stod(shorter) == value ? shorter : absl::StrFormat("%.17g", value);
}

}  // namespace

std::string SharedSettings(const Settings& settings) {
  const Gate& gate = settings.gate;
  std::string text =
      absl::StrCat("steps ", settings.steps, ", guidance ", Exact(settings.guidance_scale), ", scheduler ",
                   sdxl::SamplerName(ToSampler(settings.sampler)), " ", settings.scheduler_config, ", gate ",
                   Exact(gate.before), " ",
                   Exact(gate.after), " at ",
                   gate.switch_step ? absl::StrCat("step ", *gate.switch_step) : Exact(gate.switch_fraction),
                   ", freeu ");
  if (!settings.freeu) return text + "off";
  for (const double factor : {settings.freeu->s1, settings.freeu->s2, settings.freeu->b1, settings.freeu->b2}) {
    absl::StrAppend(&text, Exact(factor), " ");
  }
  return text;
}

identity::BankOrigin OriginOf(const Settings& settings, const std::string& model_name, const CharacterKey& key,
                              int identity_frames) {
  return {.character_key = key,
          .identity_frames = identity_frames,
          .model = model_name,
          .settings = SharedSettings(settings)};
}

absl::Status BankFailure(const absl::Status& status) {
  const std::string message(status.message());
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kDataLoss:
      return Fail(FailureKind::kBlobUnavailable, message);
    case absl::StatusCode::kResourceExhausted:
      return Fail(FailureKind::kDiskFull, message);
    default:
      return status;
  }
}

}  // namespace storyfarm::render
