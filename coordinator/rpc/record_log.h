// Durable facts as lines of the log for people: job, task and token in each.
#ifndef STORYFARM_COORDINATOR_RPC_RECORD_LOG_H_
#define STORYFARM_COORDINATOR_RPC_RECORD_LOG_H_

#include "farm/v1/record.pb.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

void LogRecord(base::Log& log, const farm::v1::Record& record);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_RECORD_LOG_H_
