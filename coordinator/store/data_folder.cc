#include "coordinator/store/data_folder.h"

#include <unistd.h>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {

absl::StatusOr<std::unique_ptr<DataFolder>> DataFolder::Open(base::Env* env, const std::string& path) {
  auto explain = [&path](const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat("the data folder ", path, " can't be used: ", status.message()));
  };
  if (absl::Status status = env->CreateFolders(path); !status.ok()) return explain(status);
  const std::string pid_file = base::JoinPath(path, "coordinator.pid");
  absl::StatusOr<std::unique_ptr<base::FileLock>> lock = env->LockFile(base::JoinPath(path, "lock"));
  if (absl::IsAlreadyExists(lock.status())) {
    const absl::StatusOr<std::string> pid = env->ReadFile(pid_file, 64);
    return absl::AlreadyExistsError(absl::StrCat(
        "another coordinator ", pid.ok() ? absl::StrCat("(process ", absl::StripAsciiWhitespace(*pid), ") ") : "",
        "uses the data folder ", path, ": stop it, or give this one a folder of its own with --data"));
  }
  if (!lock.ok()) return explain(lock.status());
  const std::string version_file = base::JoinPath(path, "version");
  const absl::StatusOr<std::string> version = env->ReadFile(version_file, 64);
  if (version.ok()) {
    int number = 0;
    if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(*version), &number) || number < 1) {
      return absl::FailedPreconditionError(
          absl::StrCat(version_file, " does not hold a version number: is ", path, " a storyfarm data folder?"));
    }
    if (number > kDataFolderVersion) {
      return absl::FailedPreconditionError(absl::StrCat("the data folder ", path, " has version ", number,
                                                        ", this coordinator knows versions up to ", kDataFolderVersion,
                                                        ": install the newer storyfarm that wrote it"));
    }
  } else if (absl::IsNotFound(version.status())) {
    if (absl::Status status = env->WriteFileDurably(version_file, absl::StrCat(kDataFolderVersion, "\n"));
        !status.ok()) {
      return explain(status);
    }
  } else {
    return explain(version.status());
  }
  if (absl::Status status = env->WriteFileDurably(pid_file, absl::StrCat(getpid(), "\n")); !status.ok()) {
    return explain(status);
  }
  const std::string id_file = base::JoinPath(path, "id");
  absl::StatusOr<std::string> id = env->ReadFile(id_file, 64);
  if (absl::IsNotFound(id.status())) {
    id = absl::BytesToHexString(env->RandomBytes(16));
    if (absl::Status status = env->WriteFileDurably(id_file, absl::StrCat(*id, "\n")); !status.ok()) {
      return explain(status);
    }
  }
  if (!id.ok()) return explain(id.status());
  return std::unique_ptr<DataFolder>(
      new DataFolder(path, std::string(absl::StripAsciiWhitespace(*id)), *std::move(lock)));
}

}  // namespace storyfarm::coordinator
