// Durable facts as lines of the log for people: job, task and token in each.
#ifndef STORYFARM_COORDINATOR_RPC_RECORD_LOG_H_
#define STORYFARM_COORDINATOR_RPC_RECORD_LOG_H_

#include <string>

#include "farm/v1/job.pb.h"
#include "farm/v1/record.pb.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

void LogRecord(base::Log& log, const farm::v1::Record& record);

// "queued", "running", "done", "failed", "cancelled".
std::string StateName(farm::v1::JobState state);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_RECORD_LOG_H_
