#include "worker/engine/outputs.h"

#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"
#include "pipeline/model/safetensors.h"

namespace storyfarm::engine {
namespace {

using Json = nlohmann::ordered_json;

// As Stable Diffusion web UIs name the samplers in their own pictures.
const char* SamplerTitle(farm::v1::Scheduler scheduler) {
  switch (scheduler) {
    case farm::v1::DDIM:
      return "DDIM";
    case farm::v1::EULER:
      return "Euler";
    case farm::v1::EULER_ANCESTRAL:
      return "Euler a";
    case farm::v1::DPMPP_2M_KARRAS:
      return "DPM++ 2M Karras";
    default:
      return "unknown";
  }
}

const char* DtypeName(farm::v1::Dtype dtype) {
  switch (dtype) {
    case farm::v1::FP32:
      return "fp32";
    case farm::v1::FP16:
      return "fp16";
    case farm::v1::BF16:
      return "bf16";
    default:
      return "unknown";
  }
}

std::string Parameters(const RecipeBase& recipe, const render::Frame& frame) {
  std::string text = frame.prompt;
  if (frame.negative_prompt.has_value()) absl::StrAppend(&text, "\nNegative prompt: ", *frame.negative_prompt);
  absl::StrAppendFormat(
      &text, "\nSteps: %d, Sampler: %s, CFG scale: %g, Seed: %d, Size: %dx%d, Model hash: %s, Model: %s",
      recipe.settings.steps(), SamplerTitle(recipe.settings.scheduler()), recipe.settings.guidance_scale(), frame.seed,
      frame.width, frame.height, recipe.model_digest_hex.substr(0, 10), recipe.model_name);
  return text;
}

// Keys in the order of the message's fields, so the text depends on the settings alone.
Json SettingsJson(const farm::v1::RenderSettings& settings) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(settings, &text, options).ok()) return Json();
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

Json RecipeJson(const RecipeBase& recipe, const render::Frame& frame) {
  Json json;
  json["software"] = "storyfarm";
  json["model"] = recipe.model_name;
  json["model_digest"] = recipe.model_digest_hex;
  json["dtype"] = recipe.dtype;
  json["panel_id"] = frame.id;
  json["prompt"] = frame.prompt;
  if (frame.negative_prompt.has_value()) json["negative_prompt"] = *frame.negative_prompt;
  json["width"] = frame.width;
  json["height"] = frame.height;
  json["seed"] = frame.seed;
  json["characters"] = frame.characters;
  json["settings"] = SettingsJson(recipe.settings);
  return json;
}

absl::Status WriteLatents(base::Env& env, const std::string& path, const render::Latents& latents) {
  const model::TensorToWrite tensor = {
      .name = "latents",
      .type = model::TensorType::kF32,
      .shape = {latents.channels, latents.height, latents.width},
      .bytes = std::as_bytes(std::span(latents.values)),
  };
  return FromDisk(model::WriteSafetensors(env, path, std::span(&tensor, 1)));
}

}  // namespace

RecipeBase MakeRecipe(const farm::v1::ModelManifest& model, const farm::v1::RenderSettings& settings,
                      const farm::v1::MemoryPlan& plan) {
  return {.model_name = model.name(),
          .model_digest_hex = absl::BytesToHexString(model.digest()),
          .settings = settings,
          .dtype = DtypeName(plan.dtype())};
}

std::vector<page::PngText> RecipeTexts(const RecipeBase& recipe, const render::Frame& frame) {
  // A prompt may hold bytes that are no UTF-8 only if its sender skipped validation; the replacement keeps the file
  // valid.
  return {{"parameters", Parameters(recipe, frame)},
          {"storyfarm", RecipeJson(recipe, frame).dump(-1, ' ', false, Json::error_handler_t::replace)}};
}

absl::StatusOr<FrameFiles> WriteFrame(base::Env& env, const std::string& folder, const RecipeBase& recipe,
                                      const render::FinishedFrame& finished) {
  const render::Frame& frame = *finished.frame;
  const std::string stem = absl::StrFormat("%s/%s-%05d", folder, frame.hidden ? "hidden" : "frame", frame.panel);
  FrameFiles files;
  files.latents_path = stem + ".safetensors";
  if (absl::Status written = WriteLatents(env, files.latents_path, finished.latents); !written.ok()) return written;
  if (frame.hidden) return files;

  page::Picture picture;
  picture.width = static_cast<uint32_t>(finished.image.width);
  picture.height = static_cast<uint32_t>(finished.image.height);
  picture.rgb.assign(finished.image.rgb.begin(), finished.image.rgb.end());
  auto png = page::EncodePng(picture, RecipeTexts(recipe, frame));
  if (!png.ok()) return png.status();
  files.image_path = stem + ".png";
  if (absl::Status written = WriteOutput(env, files.image_path, *png); !written.ok()) return written;
  return files;
}

absl::Status FromDisk(const absl::Status& status) {
  if (absl::IsResourceExhausted(status))
    return render::Fail(render::FailureKind::kDiskFull, std::string(status.message()));
  return status;
}

absl::Status WriteOutput(base::Env& env, const std::string& path, absl::string_view bytes) {
  auto file = env.OpenForWriting(path, base::WriteMode::kTruncate);
  if (!file.ok()) return FromDisk(file.status());
  absl::Status written = (*file)->Append(std::string_view(bytes.data(), bytes.size()));
  if (written.ok()) written = (*file)->Close();
  return FromDisk(written);
}

}  // namespace storyfarm::engine
