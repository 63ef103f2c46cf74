// How fast the disk of the cache is, measured.
#ifndef STORYFARM_WORKER_AGENT_DISK_SPEED_H_
#define STORYFARM_WORKER_AGENT_DISK_SPEED_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace storyfarm::worker {

struct DiskSpeed {
  uint64_t read_bytes_per_s = 0;
  uint64_t write_bytes_per_s = 0;
};

// Writes a file into the folder, in one go, as weights and identity state are, and reads it from the disk itself again:
// at most 64 MiB and about a second, less of either where the disk is slow. The file is removed. An error where the
// disk is full or fails.
absl::StatusOr<DiskSpeed> MeasureDisk(const std::string& folder);

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_DISK_SPEED_H_
