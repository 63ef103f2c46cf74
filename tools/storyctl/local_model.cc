#include "tools/storyctl/local_model.h"

#include <filesystem>
#include <utility>

#include "pipeline/model/model_folder.h"
#include "pipeline/model/profile.h"
#include "pipeline/plan/profile.h"
#include "tools/storyctl/inputs.h"

namespace storyfarm::storyctl {

absl::StatusOr<LocalModel> ReadLocalModel(const Context& context, const std::string& folder, bool fp16) {
  const auto opened = model::ModelFolder::Open(context.env, folder,
                                               fp16 ? model::WeightVariant::kFp16 : model::WeightVariant::kDefault);
  if (!opened.ok()) return AsInput(opened.status());
  if (absl::Status checked = opened->Check(); !checked.ok()) return AsInput(checked);
  const auto profile = model::ProfileModel(*opened);
  if (!profile.ok()) return AsInput(profile.status());
  auto words = model::WordList::Load(*opened);
  if (!words.ok()) return AsInput(words.status());
  LocalModel local;
  local.words = *std::move(words);
  std::filesystem::path path = std::filesystem::path(folder).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  local.manifest.set_name(path.filename().string());
  *local.manifest.mutable_profile() = plan::ToMessage(*profile);
  return local;
}

}  // namespace storyfarm::storyctl
