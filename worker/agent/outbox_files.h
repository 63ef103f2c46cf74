// The outbox on disk: one small file a finished result, written durably before the result is sent.
#ifndef STORYFARM_WORKER_AGENT_OUTBOX_FILES_H_
#define STORYFARM_WORKER_AGENT_OUTBOX_FILES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/session.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"

namespace storyfarm::worker {

// Not thread-safe. `env` and `log` outlive it.
class OutboxFiles {
 public:
  OutboxFiles(base::Env* env, base::Log* log, std::string folder) : env_(env), log_(log), folder_(std::move(folder)) {}

  // Creates the folder, and reads what an earlier process left. A file that can't be read as a result is set aside
  // (renamed to end in ".damaged") with a warning: the coordinator gives its task out again.
  absl::StatusOr<std::vector<farm::v1::Result>> Load();

  // Durable on OK.
  absl::Status Write(const farm::v1::Result& result);
  // OK where it is absent.
  absl::Status Remove(const farm::v1::FencingToken& token, const farm::v1::TaskId& task);

 private:
  std::string PathOf(const farm::v1::FencingToken& token, const farm::v1::TaskId& task) const;

  base::Env* env_;
  base::Log* log_;
  std::string folder_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_OUTBOX_FILES_H_
