// Answers on their way out: absl::Status with what a machine needs to know beside the sentence, as gRPC carries it.
#ifndef STORYFARM_COORDINATOR_RPC_STATUS_H_
#define STORYFARM_COORDINATOR_RPC_STATUS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "farm/v1/problem.pb.h"

namespace grpc {
class CallbackServerContext;
class Status;
}  // namespace grpc

namespace storyfarm::coordinator {

// INVALID_ARGUMENT with every problem attached; the sentence names the first and how many more there are.
absl::Status BadStory(const std::vector<farm::v1::Problem>& problems);

// RESOURCE_EXHAUSTED for what will pass: the same call may be made again after `retry_ms`.
absl::Status Busy(const std::string& sentence, int64_t retry_ms);
// Whether Busy made it.
bool IsBusy(const absl::Status& status);

// The same code and sentence. Attached problems become the status's details (a serialized farm.v1.Problems), and the
// time of Busy the trailer grpc-retry-pushback-ms (gRFC A6), which gRPC's own retries obey.
grpc::Status ToGrpc(const absl::Status& status, grpc::CallbackServerContext* context);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_STATUS_H_
