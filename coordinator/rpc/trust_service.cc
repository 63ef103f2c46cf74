#include "coordinator/rpc/trust_service.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "coordinator/rpc/status.h"
#include "pipeline/base/join_code.h"

namespace storyfarm::coordinator {
namespace {

absl::Status CheckInvitation(const farm::v1::InviteRequest& request) {
  switch (request.kind()) {
    case farm::v1::MEMBER_WORKER:
    case farm::v1::MEMBER_COORDINATOR:
      return absl::OkStatus();
    case farm::v1::MEMBER_USER:
      if (request.role() >= farm::v1::ROLE_VIEWER && request.role() <= farm::v1::ROLE_ADMIN) return absl::OkStatus();
      return absl::InvalidArgumentError("a user is a viewer, a submitter or an admin: say which with --role");
    default:
      return absl::InvalidArgumentError("a code is for a worker, a user or a coordinator");
  }
}

}  // namespace

void TrustServiceImpl::SetJoinAddresses(std::vector<std::string> addresses) {
  const std::lock_guard<std::mutex> lock(mutex_);
  join_addresses_ = std::move(addresses);
}

absl::StatusOr<std::string> TrustServiceImpl::MakeCode(const farm::v1::InviteRequest& request) {
  farm::v1::JoinCode code;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    code.mutable_addresses()->Assign(join_addresses_.begin(), join_addresses_.end());
  }
  if (code.addresses().empty()) {
    return absl::FailedPreconditionError(
        "no other machine can reach this coordinator: give it --advertise with a name or address that they know it by");
  }
  absl::StatusOr<std::string> secret = parts_.desk->Open({request.kind(), request.name(), request.role()});
  if (!secret.ok()) return secret.status();
  code.set_secret(*std::move(secret));
  code.set_authority_digest(parts_.authority->digest().Bytes());
  code.set_kind(request.kind());
  code.set_name(request.name());
  return base::WriteJoinCode(code);
}

grpc::ServerUnaryReactor* TrustServiceImpl::Invite(grpc::CallbackServerContext* context,
                                                   const farm::v1::InviteRequest* request,
                                                   farm::v1::InviteResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::Status status = CheckInvitation(*request);
  if (status.ok() && parts_.desk == nullptr) {
    status = absl::FailedPreconditionError(
        "this coordinator serves its own machine only: start it with --network ADDRESS, such as --network "
        "0.0.0.0:7850, so that others can join");
  }
  if (!status.ok()) {
    reactor->Finish(ToGrpc(status, context));
    return reactor;
  }
  const auto name_is_free = std::make_shared<absl::Status>();
  parts_.loop->Look(
      [request, name_is_free](const Farm& farm, const Time&) {
        if (!request->name().empty()) *name_is_free = farm.CheckFreeName(request->kind(), request->name());
      },
      [this, reactor, context, request, response, name_is_free](const absl::Status& looked) {
        const absl::Status free = looked.ok() ? *name_is_free : looked;
        absl::StatusOr<std::string> code = free.ok() ? MakeCode(*request) : free;
        if (code.ok()) {
          response->set_code(*std::move(code));
          response->set_expires_in_ms(static_cast<uint64_t>(kCodeMs));
          const std::lock_guard<std::mutex> lock(mutex_);
          response->mutable_addresses()->Assign(join_addresses_.begin(), join_addresses_.end());
        }
        reactor->Finish(ToGrpc(code.status(), context));
      });
  return reactor;
}

grpc::ServerUnaryReactor* TrustServiceImpl::ListMembers(grpc::CallbackServerContext* context,
                                                        const farm::v1::ListMembersRequest*,
                                                        farm::v1::ListMembersResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto look = [response](const Farm& farm, const Time&) {
    std::vector<farm::v1::Member> members = farm.ListMembers();
    std::sort(members.begin(), members.end(), [](const farm::v1::Member& a, const farm::v1::Member& b) {
      return std::tuple(a.kind(), a.name()) < std::tuple(b.kind(), b.name());
    });
    response->mutable_members()->Assign(members.begin(), members.end());
  };
  parts_.loop->Look(look, [reactor, context](const absl::Status& status) { reactor->Finish(ToGrpc(status, context)); });
  return reactor;
}

grpc::ServerUnaryReactor* TrustServiceImpl::RenameMember(grpc::CallbackServerContext* context,
                                                         const farm::v1::RenameMemberRequest* request,
                                                         farm::v1::Member* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto answer = [this, reactor, context, response](const Reply& reply) {
    if (!reply.status.ok()) return reactor->Finish(ToGrpc(reply.status, context));
    const auto look = [response, id = reply.job_id](const Farm& farm, const Time&) {
      for (farm::v1::Member& member : farm.ListMembers()) {
        if (member.member_id() == id) *response = std::move(member);
      }
    };
    parts_.loop->Look(look,
                      [reactor, context](const absl::Status& status) { reactor->Finish(ToGrpc(status, context)); });
  };
  parts_.loop->Ask(
      [request](uint64_t number) {
        return Input(coordinator::RenameMember{number, request->kind(), request->member(), request->name()});
      },
      answer);
  return reactor;
}

grpc::ServerUnaryReactor* TrustServiceImpl::RemoveMember(grpc::CallbackServerContext* context,
                                                         const farm::v1::RemoveMemberRequest* request,
                                                         farm::v1::Member* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  parts_.loop->Ask(
      [request](uint64_t number) {
        return Input(coordinator::RemoveMember{number, request->kind(), request->member()});
      },
      [reactor, context, request, response](const Reply& reply) {
        response->set_member_id(reply.job_id);
        response->set_kind(request->kind());
        response->set_name(request->member());
        reactor->Finish(ToGrpc(reply.status, context));
      });
  return reactor;
}

grpc::ServerUnaryReactor* TrustServiceImpl::RenewCertificate(grpc::CallbackServerContext* context,
                                                             const farm::v1::RenewCertificateRequest* request,
                                                             farm::v1::RenewCertificateResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const std::optional<Caller> caller =
      parts_.guard == nullptr ? std::nullopt : parts_.guard->CallerOf(*context->auth_context());
  if (!caller.has_value()) {
    const absl::Status none =
        absl::FailedPreconditionError("this call came without a certificate: there is none to renew");
    reactor->Finish(ToGrpc(none, context));
    return reactor;
  }
  absl::StatusOr<base::Certificate> certificate =
      parts_.authority->Sign(request->signing_request_pem(), caller->member, parts_.env->NowUnixMs());
  if (!certificate.ok()) {
    reactor->Finish(ToGrpc(certificate.status(), context));
    return reactor;
  }
  response->set_certificate_pem(std::move(certificate->pem));
  RenewMember renewal;
  renewal.member_id = caller->member.member_id();
  renewal.asked_with_serial = caller->serial;
  renewal.serial = certificate->serial;
  renewal.expires_unix_ms = static_cast<uint64_t>(certificate->expires_unix_ms);
  parts_.loop->Ask(
      [renewal](uint64_t number) {
        RenewMember input = renewal;
        input.request = number;
        return Input(std::move(input));
      },
      [reactor, context](const Reply& reply) { reactor->Finish(ToGrpc(reply.status, context)); });
  return reactor;
}

}  // namespace storyfarm::coordinator
