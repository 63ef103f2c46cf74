#include "coordinator/rpc/models.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/rpc/submit.h"
#include "pipeline/base/digest.h"
#include "pipeline/model/model_folder.h"
#include "pipeline/model/profile.h"
#include "pipeline/plan/profile.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::ModelFile;
using farm::v1::ModelManifest;

constexpr size_t kNameBytes = 64;
constexpr size_t kMissingNamed = 5;  // a sentence that lists more is no sentence

absl::Status CheckName(const std::string& name) {
  bool good = !name.empty() && name.size() <= kNameBytes;
  for (const char c : name)
    good = good && (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-');
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is no name for a model: 1 to ", kNameBytes,
                                                 " letters, digits, dots, underscores and hyphens are."));
}

absl::Status CheckFiles(const ModelManifest& manifest, BlobStore& blobs) {
  if (manifest.files_size() == 0 || manifest.files_size() > static_cast<int>(model::kMaxModelFiles)) {
    return absl::InvalidArgumentError(absl::StrCat("The manifest of model ", manifest.name(), " lists ",
                                                   manifest.files_size(), " files; 1 to ", model::kMaxModelFiles,
                                                   " are possible."));
  }
  std::vector<std::string> missing;
  std::string previous;
  for (const ModelFile& file : manifest.files()) {
    if (!model::IsModelPath(file.path())) {
      return absl::InvalidArgumentError(absl::StrCat("\"", file.path(), "\" is no path of a model's file."));
    }
    if (file.path() <= previous) {
      return absl::InvalidArgumentError(
          absl::StrCat("The manifest's files are not sorted by path, or one is named twice: ", file.path(),
                       " comes after ", previous, "."));
    }
    previous = file.path();
    const absl::Status there = CheckBlob(blobs, file.blob());
    if (absl::IsNotFound(there)) {
      missing.push_back(file.path());
    } else if (!there.ok()) {
      return absl::Status(there.code(), absl::StrCat(file.path(), ": ", there.message()));
    }
  }
  if (missing.empty()) return absl::OkStatus();
  const size_t count = missing.size();
  if (count > kMissingNamed) {
    missing.resize(kMissingNamed);
    missing.push_back(absl::StrCat("and ", count - kMissingNamed, " more"));
  }
  return absl::FailedPreconditionError(
      absl::StrCat("Not uploaded yet: ", absl::StrJoin(missing, ", "), ". Upload them, then add the model again."));
}

}  // namespace

absl::StatusOr<ModelManifest> CheckModel(const ModelManifest& manifest, BlobStore& blobs) {
  if (absl::Status status = CheckName(manifest.name()); !status.ok()) return status;
  if (absl::Status status = CheckFiles(manifest, blobs); !status.ok()) return status;
  std::vector<model::ModelFileEntry> entries;
  std::map<std::string, std::string> paths;
  std::vector<base::FilePin> pins;
  for (const ModelFile& file : manifest.files()) {
    const absl::StatusOr<base::Digest> digest = base::Digest::FromBytes(file.blob().digest());
    if (!digest.ok()) return digest.status();
    absl::StatusOr<base::FilePin> pin = blobs.Pin(file.blob().digest());
    if (!pin.ok()) return pin.status();
    entries.push_back({file.path(), *digest, file.blob().size_bytes()});
    paths.emplace(file.path(), pin->path());
    pins.push_back(*std::move(pin));
  }
  if (model::ManifestDigest(entries).view() != manifest.digest()) {
    return absl::InvalidArgumentError(
        absl::StrCat("The digest of model ", manifest.name(), " is not that of its files: the manifest was damaged."));
  }
  const auto refused = [&manifest](const absl::Status& why) {
    return absl::InvalidArgumentError(absl::StrCat("Model ", manifest.name(), " can't be run here: ", why.message()));
  };
  absl::StatusOr<model::ModelFolder> folder = model::ModelFolder::FromFiles(blobs.env(), std::move(paths));
  if (!folder.ok()) return refused(folder.status());
  if (absl::Status status = folder->Check(); !status.ok()) return refused(status);
  const absl::StatusOr<model::ModelProfile> profile = model::ProfileModel(*folder);
  if (!profile.ok()) return refused(profile.status());
  ModelManifest checked = manifest;
  *checked.mutable_profile() = plan::ToMessage(*profile);
  return checked;
}

}  // namespace storyfarm::coordinator
