// TrustService: codes for those who may join, and the roster of those who did. Behind server.h.
#ifndef STORYFARM_COORDINATOR_RPC_TRUST_SERVICE_H_
#define STORYFARM_COORDINATOR_RPC_TRUST_SERVICE_H_

#include <mutex>
#include <string>
#include <vector>

#include "coordinator/rpc/authority.h"
#include "coordinator/rpc/guard.h"
#include "coordinator/rpc/join_desk.h"
#include "coordinator/rpc/loop.h"
#include "farm/v1/trust.grpc.pb.h"
#include "pipeline/base/env.h"

namespace storyfarm::coordinator {

// Outlives the gRPC server that it is registered with.
class TrustServiceImpl : public farm::v1::TrustService::CallbackService {
 public:
  // All of it outlives the service.
  struct Parts {
    Loop* loop = nullptr;
    base::Env* env = nullptr;
    // Null where the coordinator serves this machine only: nobody can join then.
    JoinDesk* desk = nullptr;
    const FarmAuthority* authority = nullptr;
    const Guard* guard = nullptr;
  };
  explicit TrustServiceImpl(const Parts& parts) : parts_(parts) {}

  // Where others reach JoinService, once it is known.
  void SetJoinAddresses(std::vector<std::string> addresses);

  grpc::ServerUnaryReactor* Invite(grpc::CallbackServerContext* context, const farm::v1::InviteRequest* request,
                                   farm::v1::InviteResponse* response) override;
  grpc::ServerUnaryReactor* ListMembers(grpc::CallbackServerContext* context,
                                        const farm::v1::ListMembersRequest* request,
                                        farm::v1::ListMembersResponse* response) override;
  grpc::ServerUnaryReactor* RenameMember(grpc::CallbackServerContext* context,
                                         const farm::v1::RenameMemberRequest* request,
                                         farm::v1::Member* response) override;
  grpc::ServerUnaryReactor* RemoveMember(grpc::CallbackServerContext* context,
                                         const farm::v1::RemoveMemberRequest* request,
                                         farm::v1::Member* response) override;
  grpc::ServerUnaryReactor* RenewCertificate(grpc::CallbackServerContext* context,
                                             const farm::v1::RenewCertificateRequest* request,
                                             farm::v1::RenewCertificateResponse* response) override;

 private:
  absl::StatusOr<std::string> MakeCode(const farm::v1::InviteRequest& request);

  const Parts parts_;
  std::mutex mutex_;
  std::vector<std::string> join_addresses_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_TRUST_SERVICE_H_
