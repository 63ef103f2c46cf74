// What frames told of the devices' speeds, kept in the data folder over restarts.
#ifndef STORYFARM_WORKER_AGENT_SPEED_FILE_H_
#define STORYFARM_WORKER_AGENT_SPEED_FILE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "farm/v1/device.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"

namespace storyfarm::worker {

class SpeedFile {
 public:
  SpeedFile(base::Env* env, base::Log* log, std::string path);

  // Fills in `speeds` of a device that was here before: the same backend, ordinal and name. A card that took the place
  // of another one begins anew. A file that can't be read is no more than a slower beginning: the log says so.
  void Recall(std::vector<farm::v1::DeviceReport>& devices) const;

  // Writes the file anew. One thread at a time.
  absl::Status Keep(const std::vector<farm::v1::DeviceReport>& devices) const;

 private:
  base::Env* const env_;
  base::Log* const log_;
  const std::string path_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_SPEED_FILE_H_
