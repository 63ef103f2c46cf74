#include "pipeline/plan/model_use.h"

#include "absl/strings/match.h"

namespace storyfarm::plan {

ModelUse UseOf(const farm::v1::Work& work) {
  if (work.has_text()) return ModelUse::kText;
  const bool from_file = work.has_identity() ? work.identity().has_text() : work.frames().has_text();
  return from_file ? ModelUse::kPictures : ModelUse::kBoth;
}

ModelUse UseOf(const farm::v1::GroupShape& shape) {
  if (shape.texts() > 0) return ModelUse::kText;
  return shape.text_from_file() ? ModelUse::kPictures : ModelUse::kBoth;
}

bool Needs(ModelUse use, const farm::v1::ModelFile& file) {
  const std::string& path = file.path();
  if (use == ModelUse::kBoth || !absl::EndsWith(path, ".safetensors")) return true;
  const std::string part = path.substr(0, path.find('/'));
  const bool of_text = part == "text_encoder" || part == "text_encoder_2";
  const bool of_pictures = part == "unet" || part == "vae";
  return use == ModelUse::kText ? !of_pictures : !of_text;
}

const farm::v1::ModelManifest* ModelOf(const farm::v1::Work& work) {
  if (work.has_identity()) return &work.identity().model();
  if (work.has_frames()) return &work.frames().model();
  if (work.has_text()) return &work.text().model();
  return nullptr;
}

}  // namespace storyfarm::plan
