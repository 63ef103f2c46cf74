// A worker's data folder: its lock, its version and the node's name for life.
#ifndef STORYFARM_WORKER_AGENT_DATA_FOLDER_H_
#define STORYFARM_WORKER_AGENT_DATA_FOLDER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "pipeline/base/env.h"

namespace storyfarm::worker {

// Raised when a later version writes what this one could not read.
inline constexpr int kDataVersion = 1;

struct DataFolder {
  std::string path;
  std::unique_ptr<base::FileLock> lock;
  std::string node_id;  // 128 random bits in hex, drawn when the folder was new
};

absl::StatusOr<DataFolder> OpenDataFolder(base::Env& env, const std::string& path);

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_DATA_FOLDER_H_
