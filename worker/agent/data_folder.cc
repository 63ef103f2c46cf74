#include "worker/agent/data_folder.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace storyfarm::worker {
namespace {

constexpr size_t kNodeIdBytes = 16;
constexpr uint64_t kMaxSmallFileBytes = 4096;

bool IsNodeId(const std::string& text) {
  return text.size() == 2 * kNodeIdBytes && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

absl::Status CheckVersion(base::Env& env, const std::string& folder) {
  const std::string path = base::JoinPath(folder, "version");
  const absl::StatusOr<std::string> text = env.ReadFile(path, kMaxSmallFileBytes);
  if (absl::IsNotFound(text.status())) return env.WriteFileDurably(path, absl::StrCat(kDataVersion, "\n"));
  if (!text.ok()) return text.status();
  int version = 0;
  if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &version) || version < 1) {
    return absl::FailedPreconditionError(absl::StrCat("The file ", path, " does not hold a version number; is ", folder,
                                                      " really a worker's data folder?"));
  }
  if (version > kDataVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("The data folder ", folder, " was written by a newer storyfarm-worker (version ", version,
                     ", this one knows ", kDataVersion, "); update this one, or use another --data folder."));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DataFolder> OpenDataFolder(base::Env& env, const std::string& path) {
  DataFolder folder;
  folder.path = path;
  if (absl::Status made = env.CreateFolders(path); !made.ok()) {
    return absl::Status(made.code(),
                        absl::StrCat("The data folder can't be used: ", made.message(), " Name another with --data."));
  }
  absl::StatusOr<std::unique_ptr<base::FileLock>> lock = env.LockFile(base::JoinPath(path, "lock"));
  if (absl::IsAlreadyExists(lock.status())) {
    return absl::AlreadyExistsError(absl::StrCat("Another storyfarm-worker uses the data folder ", path,
                                                 "; stop it, or give this one a folder of its own with --data."));
  }
  if (!lock.ok()) return lock.status();
  folder.lock = *std::move(lock);
  if (absl::Status checked = CheckVersion(env, path); !checked.ok()) return checked;
  const std::string id_path = base::JoinPath(path, "node-id");
  absl::StatusOr<std::string> id = env.ReadFile(id_path, kMaxSmallFileBytes);
  if (absl::IsNotFound(id.status())) {
    folder.node_id = absl::BytesToHexString(env.RandomBytes(kNodeIdBytes));
    if (absl::Status written = env.WriteFileDurably(id_path, folder.node_id + "\n"); !written.ok()) return written;
    return folder;
  }
  if (!id.ok()) return id.status();
  folder.node_id = std::string(absl::StripAsciiWhitespace(*id));
  if (!IsNodeId(folder.node_id)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "The file ", id_path, " does not hold a node id (32 hexadecimal digits); remove it to draw a new one."));
  }
  return folder;
}

}  // namespace storyfarm::worker
