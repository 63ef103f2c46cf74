#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/transfer.h"
#include "pipeline/model/model_folder.h"
#include "pipeline/model/profile.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/inputs.h"
#include "tools/storyctl/json.h"

namespace storyfarm::storyctl {
namespace {

using Client = farm::v1::ClientService::StubInterface;

absl::Status CheckName(const std::string& name) {
  const bool right = !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
  if (right) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("'", name, "' is no name for a model: 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-'"));
}

// The model as a list of blobs; every file is read once.
absl::StatusOr<farm::v1::ModelManifest> MakeManifest(const Context& context, const model::ModelFolder& folder,
                                                     const std::string& name) {
  const auto files = folder.Files();
  if (!files.ok()) return files.status();
  farm::v1::ModelManifest manifest;
  manifest.set_name(name);
  std::vector<model::ModelFileEntry> entries;
  LiveLines lines(context.console);
  for (const std::string& path : *files) {
    lines.Show({absl::StrCat("reading ", path)});
    const auto place = folder.PathOf(path);
    if (!place.ok()) return place.status();
    const auto hashed = base::HashFile(context.env, *place);
    if (!hashed.ok()) return hashed.status();
    entries.push_back({path, hashed->digest, hashed->size_bytes});
    farm::v1::ModelFile* file = manifest.add_files();
    file->set_path(path);
    *file->mutable_blob() = base::MakeBlobRef(hashed->digest, hashed->size_bytes);
  }
  lines.Clear();
  manifest.set_digest(model::ManifestDigest(std::move(entries)).Bytes());
  return manifest;
}

absl::Status Upload(const Context& context, FarmClient& farm, const model::ModelFolder& folder,
                    const farm::v1::ModelManifest& manifest) {
  std::vector<farm::v1::BlobRef> refs;
  for (const farm::v1::ModelFile& file : manifest.files()) refs.push_back(file.blob());
  const auto missing = FindMissingAt(farm, refs);
  if (!missing.ok()) return missing.status();
  uint64_t total = 0;
  for (const farm::v1::BlobRef& blob : *missing) total += blob.size_bytes();
  uint64_t sent = 0;
  LiveLines lines(context.console);
  for (const farm::v1::BlobRef& blob : *missing) {
    const auto file = std::find_if(manifest.files().begin(), manifest.files().end(),
                                   [&](const farm::v1::ModelFile& f) { return f.blob().digest() == blob.digest(); });
    const auto place = folder.PathOf(file->path());
    if (!place.ok()) return place.status();
    base::TransferOptions options;
    options.progress = [&](uint64_t through) {
      lines.Show({absl::StrCat(Bar(sent + through, total, 32), " ", FormatBytes(sent + through), " of ",
                               FormatBytes(total), "  ", file->path())});
    };
    const absl::Status uploaded = base::UploadFile(farm.blobs(), context.env, *place, blob, UploadId(*place), options);
    if (!uploaded.ok()) {
      lines.Clear();
      return uploaded;
    }
    sent += blob.size_bytes();
  }
  lines.Clear();
  context.console.Note(total == 0 ? "the farm has every file already" : absl::StrCat("uploaded ", FormatBytes(total)));
  return absl::OkStatus();
}

}  // namespace

Outcome AddModel(const Context& context, const AddModelOptions& options) {
  if (absl::Status named = CheckName(options.name); !named.ok()) return named;
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  const auto folder = model::ModelFolder::Open(
      context.env, options.folder, options.fp16 ? model::WeightVariant::kFp16 : model::WeightVariant::kDefault);
  if (!folder.ok()) return AsInput(folder.status());
  if (absl::Status checked = folder->Check(); !checked.ok()) return AsInput(checked);
  if (const auto profile = model::ProfileModel(*folder); !profile.ok()) return AsInput(profile.status());

  FarmClient farm(*target);
  // Before gigabytes are read for nobody.
  if (const auto known = farm.Call(&Client::ListModels, farm::v1::ListModelsRequest()); !known.ok()) {
    return known.status();
  }
  auto manifest = MakeManifest(context, *folder, options.name);
  if (!manifest.ok()) return AsInput(manifest.status());
  if (absl::Status uploaded = Upload(context, farm, *folder, *manifest); !uploaded.ok()) return uploaded;
  farm::v1::AddModelRequest request;
  *request.mutable_model() = *std::move(manifest);
  const auto added = farm.Call(&Client::AddModel, request);
  if (!added.ok()) return added.status();
  if (context.json) {
    context.console.out() << Print(ToJson(*added)) << std::endl;
  } else {
    context.console.out() << added->name() << std::endl;
  }
  return ExitCode::kOk;
}

Outcome ListModels(const Context& context) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  const auto response = farm.Call(&Client::ListModels, farm::v1::ListModelsRequest());
  if (!response.ok()) return response.status();
  if (context.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const auto& model : response->models()) list.push_back(ToJson(model));
    context.console.out() << Print({{"models", list}}) << std::endl;
    return ExitCode::kOk;
  }
  if (response->models().empty()) {
    context.console.Note("no models yet: storyctl models add NAME FOLDER");
    return ExitCode::kOk;
  }
  std::vector<std::vector<std::string>> rows = {{"MODEL", "SIZE", "PICTURES", "DIGEST"}};
  for (const auto& model : response->models()) {
    const nlohmann::json json = ToJson(model);
    rows.push_back({model.name(), FormatBytes(json["bytes"]),
                    absl::StrCat(model.profile().native_width(), " x ", model.profile().native_height()),
                    json["digest"].get<std::string>().substr(0, 12)});
  }
  context.console.out() << Table(rows) << std::flush;
  return ExitCode::kOk;
}

}  // namespace storyfarm::storyctl
