#include "tools/storyctl/latents.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/model/safetensors.h"

namespace storyfarm::storyctl {

absl::Status CollectLatents(base::Env& env, const std::vector<std::string>& files, const std::string& path) {
  std::vector<std::shared_ptr<const model::SafetensorsFile>> open;  // the tensors below borrow their bytes
  std::vector<model::TensorToWrite> tensors;
  for (size_t panel = 0; panel < files.size(); ++panel) {
    if (files[panel].empty()) continue;
    auto file = model::SafetensorsFile::Open(files[panel]);
    if (!file.ok()) return file.status();
    const model::TensorInfo* latents = (*file)->Find("latents");
    if (latents == nullptr || latents->type != model::TensorType::kF32) {
      return absl::InternalError(absl::StrCat(files[panel], " has no float32 tensor 'latents'"));
    }
    tensors.push_back(
        {absl::StrCat("latents/", panel), model::TensorType::kF32, latents->shape, (*file)->Bytes(*latents)});
    open.push_back(*std::move(file));
  }
  return model::WriteSafetensors(env, path, tensors);
}

}  // namespace storyfarm::storyctl
