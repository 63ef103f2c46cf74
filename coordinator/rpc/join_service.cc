#include "coordinator/rpc/join_service.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/status.h"

namespace storyfarm::coordinator {
namespace {

// As a worker's data folder has it: 128 bits in hex.
constexpr size_t kNodeIdDigits = 32;

bool IsNodeId(const std::string& text) {
  return text.size() == kNodeIdDigits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// "ipv4:192.168.1.5:40312" -> "ipv4:192.168.1.5".
std::string HostOf(const grpc::CallbackServerContext& context) {
  const std::string peer = context.peer();
  return peer.substr(0, peer.rfind(':'));
}

}  // namespace

grpc::ServerUnaryReactor* JoinServiceImpl::FetchAuthority(grpc::CallbackServerContext* context,
                                                          const farm::v1::FetchAuthorityRequest*,
                                                          farm::v1::FetchAuthorityResponse* response) {
  response->set_authority_pem(parts_.authority->certificate_pem());
  response->set_unix_ms(static_cast<uint64_t>(std::max<int64_t>(0, parts_.env->NowUnixMs())));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* JoinServiceImpl::Join(grpc::CallbackServerContext* context,
                                                const farm::v1::JoinRequest* request,
                                                farm::v1::JoinResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto finish = [reactor, context](const absl::Status& status) { reactor->Finish(ToGrpc(status, context)); };
  const absl::StatusOr<base::Digest> key = base::KeyDigestOfRequest(request->signing_request_pem());
  absl::Status status = key.status();
  if (status.ok() && request->kind() == farm::v1::MEMBER_WORKER && !IsNodeId(request->node_id())) {
    status = absl::InvalidArgumentError("a worker joins with the node id of its data folder: 32 hexadecimal digits");
  }
  if (!status.ok()) {
    finish(status);
    return reactor;
  }
  const absl::StatusOr<JoinDesk::Taken> taken =
      parts_.desk->Take(request->secret(), request->kind(), *key, HostOf(*context));
  if (!taken.ok() || taken->answered) {
    if (taken.ok()) *response = taken->answer;
    finish(taken.status());
    return reactor;
  }
  const int64_t now_unix_ms = parts_.env->NowUnixMs();
  farm::v1::Member member;
  member.set_member_id(absl::StrCat(absl::Hex(parts_.random_bits(), absl::kZeroPad16)));
  member.set_kind(taken->offer.kind);
  member.set_name(taken->offer.name.empty() ? request->name() : taken->offer.name);
  member.set_role(taken->offer.role);
  if (member.kind() == farm::v1::MEMBER_WORKER) member.set_node_id(request->node_id());
  member.set_joined_unix_ms(static_cast<uint64_t>(now_unix_ms));
  status = CheckMemberName(member.name());
  const absl::StatusOr<base::Certificate> certificate =
      status.ok() ? parts_.authority->Sign(request->signing_request_pem(), member, now_unix_ms) : status;
  if (!certificate.ok()) {
    parts_.desk->Return(request->secret());
    finish(certificate.status());
    return reactor;
  }
  member.add_serials(certificate->serial);
  member.set_expires_unix_ms(static_cast<uint64_t>(certificate->expires_unix_ms));
  response->set_certificate_pem(certificate->pem);
  response->set_port(static_cast<uint32_t>(farm_port_));
  *response->mutable_member() = member;
  if (member.kind() == farm::v1::MEMBER_COORDINATOR) response->set_authority_key_pem(parts_.authority->key_pem());
  parts_.loop->Ask(
      [member](uint64_t number) {
        return Input(AddMember{number, member});
      },
      [this, finish, request, response, key = *key](const Reply& reply) {
        if (reply.status.ok()) {
          // The authority's key is not kept for one whose answer was lost: it asks for another code.
          const bool keep = response->authority_key_pem().empty();
          parts_.desk->Settle(request->secret(), key, keep ? *response : farm::v1::JoinResponse());
        } else {
          parts_.desk->Return(request->secret());
          response->Clear();
        }
        finish(reply.status);
      });
  return reactor;
}

}  // namespace storyfarm::coordinator
