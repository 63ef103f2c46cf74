// JoinService: how others come to have a certificate. On a server of its own, as it asks for none. Behind server.h.
#ifndef STORYFARM_COORDINATOR_RPC_JOIN_SERVICE_H_
#define STORYFARM_COORDINATOR_RPC_JOIN_SERVICE_H_

#include <atomic>
#include <cstdint>
#include <functional>

#include "coordinator/rpc/authority.h"
#include "coordinator/rpc/join_desk.h"
#include "coordinator/rpc/loop.h"
#include "farm/v1/join.grpc.pb.h"
#include "pipeline/base/env.h"

namespace storyfarm::coordinator {

// Outlives the gRPC server that it is registered with.
class JoinServiceImpl : public farm::v1::JoinService::CallbackService {
 public:
  // All of it outlives the service.
  struct Parts {
    Loop* loop = nullptr;
    JoinDesk* desk = nullptr;
    const FarmAuthority* authority = nullptr;
    base::Env* env = nullptr;
    std::function<uint64_t()> random_bits;
  };
  explicit JoinServiceImpl(Parts parts) : parts_(std::move(parts)) {}

  // The farm's own port, once it is known.
  void SetFarmPort(int port) { farm_port_ = port; }

  grpc::ServerUnaryReactor* FetchAuthority(grpc::CallbackServerContext* context,
                                           const farm::v1::FetchAuthorityRequest* request,
                                           farm::v1::FetchAuthorityResponse* response) override;
  grpc::ServerUnaryReactor* Join(grpc::CallbackServerContext* context, const farm::v1::JoinRequest* request,
                                 farm::v1::JoinResponse* response) override;

 private:
  const Parts parts_;
  std::atomic<int> farm_port_ = 0;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_JOIN_SERVICE_H_
