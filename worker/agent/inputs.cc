#include "worker/agent/inputs.h"

#include <filesystem>
#include <set>
#include <system_error>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pipeline/base/digest.h"
#include "pipeline/plan/model_use.h"
#include "worker/core/session.h"

namespace storyfarm::worker {
namespace {

// Carries the digest of a blob that the coordinator has not, or not whole, along with a status.
constexpr char kMissingBlob[] = "storyfarm.missing-blob";

bool StaysInside(const std::string& path) {
  if (path.empty() || path.front() == '/') return false;
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == "." || part == "..") return false;
  }
  return path.find('\0') == std::string::npos;
}

}  // namespace

farm::v1::Failure FailureOf(const absl::Status& status, farm::v1::FailureKind otherwise) {
  farm::v1::Failure failure;
  failure.set_kind(absl::IsResourceExhausted(status) ? farm::v1::DISK_FULL : otherwise);
  failure.set_message(std::string(status.message()));
  if (const auto digest = status.GetPayload(kMissingBlob)) failure.set_missing_digest(std::string(*digest));
  return failure;
}

absl::StatusOr<std::string> AssembleModel(base::FileStore& cache, const std::string& models_folder,
                                          const farm::v1::ModelManifest& model, plan::ModelUse use) {
  const absl::StatusOr<base::Digest> name = base::Digest::FromBytes(model.digest());
  if (!name.ok()) return name.status();
  const std::string folder = base::JoinPath(models_folder, name->Hex());
  for (const farm::v1::ModelFile& file : model.files()) {
    if (!StaysInside(file.path())) {
      return absl::InvalidArgumentError(
          absl::StrCat("the model ", model.name(), " has a file whose path is not allowed: ", file.path()));
    }
    if (!plan::Needs(use, file)) continue;
    const absl::StatusOr<base::Digest> digest = base::Digest::FromBytes(file.blob().digest());
    if (!digest.ok()) return digest.status();
    const absl::StatusOr<std::string> target = cache.Path(*digest);
    if (!target.ok()) return target.status();
    const std::string link = base::JoinPath(folder, file.path());
    if (absl::Status made = cache.env().CreateFolders(base::FolderOf(link)); !made.ok()) return made;
    std::error_code error;
    const std::filesystem::path absolute = std::filesystem::absolute(*target, error);
    if (error) return base::ErrorFromErrno(error.value(), "find", *target);
    if (std::filesystem::read_symlink(link, error) == absolute && !error) continue;
    // A new link under another name replaces the old one in one step: two groups may prepare the same model at a time.
    const std::string fresh = absl::StrCat(link, ".", base::Digest::Of(cache.env().RandomBytes(16)).ShortHex());
    std::filesystem::create_symlink(absolute, fresh, error);
    if (error) return base::ErrorFromErrno(error.value(), "link", fresh);
    if (absl::Status renamed = cache.env().Rename(fresh, link); !renamed.ok()) return renamed;
  }
  return folder;
}

absl::StatusOr<GroupInputs> FetchInputs(BlobSources& sources, base::FileStore& cache, const std::string& models_folder,
                                        const farm::v1::Work& work, const std::vector<farm::v1::Peer>& peers,
                                        base::TransferCancel* cancel) {
  GroupInputs inputs;
  std::set<std::string> of_model;
  const farm::v1::ModelManifest* model = plan::ModelOf(work);
  if (model != nullptr) {
    for (const farm::v1::ModelFile& file : model->files()) of_model.insert(file.blob().digest());
  }
  for (const farm::v1::BlobRef& blob : InputsOf(work)) {
    absl::StatusOr<base::FilePin> pin = sources.Fetch(blob, peers, cancel, &inputs.fetched);
    if (!pin.ok()) {
      absl::Status status = pin.status();
      const bool not_whole_there = absl::IsNotFound(status) || absl::IsDataLoss(status);
      if (not_whole_there) status.SetPayload(kMissingBlob, absl::Cord(blob.digest()));
      return status;
    }
    if (of_model.count(blob.digest()) == 0) {
      farm::v1::LocalFile& file = inputs.files.emplace_back();
      file.set_digest(blob.digest());
      file.set_path(pin->path());
    }
    inputs.pins.push_back(*std::move(pin));
  }
  if (model == nullptr) return inputs;
  absl::StatusOr<std::string> folder = AssembleModel(cache, models_folder, *model, plan::UseOf(work));
  if (!folder.ok()) return folder.status();
  inputs.model_folder = *std::move(folder);
  return inputs;
}

}  // namespace storyfarm::worker
