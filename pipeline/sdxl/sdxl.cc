#include "pipeline/sdxl/sdxl.h"

#include <exception>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace storyfarm::sdxl {
namespace {

// Builds one component from its files; torch's exceptions stop here.
template <typename Component, typename Config>
absl::StatusOr<std::unique_ptr<Component>> Load(const model::ModelFolder& folder, const std::string& component,
                                                const absl::StatusOr<Config>& config, const Placement& placement) {
  if (!config.ok()) return config.status();
  absl::StatusOr<Weights> weights = Weights::Open(folder, component, placement);
  if (!weights.ok()) return weights.status();
  try {
    auto built = std::make_unique<Component>(*config, &*weights);
    if (absl::Status status = weights->Finish(); !status.ok()) return status;
    return built;
  } catch (const c10::OutOfMemoryError& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for the weights of ", component, ": ", error.what_without_backtrace()));
  } catch (const c10::Error& error) {
    return absl::InternalError(absl::StrCat("loading ", component, ": ", error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("loading ", component, ": ", error.what()));
  }
}

template <typename Part>
absl::StatusOr<std::unique_ptr<Part>> LoadPartOfVae(const model::ModelFolder& folder, Placement placement) {
  const absl::StatusOr<model::VaeConfig> config = folder.Vae();
  if (config.ok() && config->force_upcast && placement.dtype == at::kHalf) placement.dtype = at::kFloat;
  return Load<Part>(folder, "vae", config, placement);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TextEncoders>> LoadTextEncoders(const model::ModelFolder& folder, Placement placement) {
  auto first = Load<ClipTextModel>(folder, "text_encoder", folder.TextEncoder("text_encoder"), placement);
  if (!first.ok()) return first.status();
  auto second = Load<ClipTextModel>(folder, "text_encoder_2", folder.TextEncoder("text_encoder_2"), placement);
  if (!second.ok()) return second.status();
  return std::make_unique<TextEncoders>(*std::move(first), *std::move(second), placement);
}

absl::StatusOr<std::unique_ptr<UNet>> LoadUNet(const model::ModelFolder& folder, Placement placement) {
  return Load<UNet>(folder, "unet", folder.UNet(), placement);
}

absl::StatusOr<std::unique_ptr<Vae>> LoadVae(const model::ModelFolder& folder, Placement placement) {
  return LoadPartOfVae<Vae>(folder, placement);
}

absl::StatusOr<std::unique_ptr<VaeEncoder>> LoadVaeEncoder(const model::ModelFolder& folder, Placement placement) {
  return LoadPartOfVae<VaeEncoder>(folder, placement);
}

}  // namespace storyfarm::sdxl
