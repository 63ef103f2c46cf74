// The coordinator's data folder: locked by one process, of a version that this program knows.
#ifndef STORYFARM_COORDINATOR_STORE_DATA_FOLDER_H_
#define STORYFARM_COORDINATOR_STORE_DATA_FOLDER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "pipeline/base/env.h"

namespace storyfarm::coordinator {

// Raised when what lies in the folder changes its form.
inline constexpr int kDataFolderVersion = 1;

class DataFolder {
 public:
  // Creates the folder (0700) where it is missing and locks it until destruction or the process's end. Every error is a
  // sentence: PERMISSION_DENIED or the like (can't be written), ALREADY_EXISTS (names the process that holds it),
  // FAILED_PRECONDITION (a newer version wrote it).
  static absl::StatusOr<std::unique_ptr<DataFolder>> Open(base::Env* env, const std::string& path);

  const std::string& path() const { return path_; }
  // 32 random hex digits, drawn when the folder was made.
  const std::string& id() const { return id_; }

 private:
  DataFolder(std::string path, std::string id, std::unique_ptr<base::FileLock> lock)
      : path_(std::move(path)), id_(std::move(id)), lock_(std::move(lock)) {}

  std::string path_;
  std::string id_;
  std::unique_ptr<base::FileLock> lock_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_STORE_DATA_FOLDER_H_
