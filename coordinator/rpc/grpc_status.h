// absl::Status as gRPC's: the codes are the same numbers.
#ifndef STORYFARM_COORDINATOR_RPC_GRPC_STATUS_H_
#define STORYFARM_COORDINATOR_RPC_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace storyfarm::coordinator {

inline grpc::Status ToGrpcStatus(const absl::Status& status, const std::string& details = "") {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()), details);
}

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_GRPC_STATUS_H_
