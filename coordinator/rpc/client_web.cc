// ClientService, the side that watching needs: figures for monitoring, links to the web page.
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/client_service.h"
#include "coordinator/rpc/status.h"
#include "pipeline/plan/names.h"

namespace storyfarm::coordinator {

grpc::ServerUnaryReactor* ClientServiceImpl::GetFigures(grpc::CallbackServerContext* context,
                                                        const farm::v1::GetFiguresRequest*,
                                                        farm::v1::Figures* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto look = [response](const Farm& farm, const Time&) { *response = farm.Count(); };
  parts_.loop->Look(look, [this, reactor, context, response](const absl::Status& status) {
    if (status.ok()) parts_.tally->AddTo(response);
    reactor->Finish(ToGrpc(status, context));
  });
  return reactor;
}

absl::StatusOr<ClientServiceImpl::Visitor> ClientServiceImpl::VisitorOf(
    const grpc::CallbackServerContext& context) const {
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  if (auth == nullptr || !auth->IsPeerAuthenticated()) return Visitor{};
  const std::optional<Caller> caller = parts_.guard->CallerOf(*auth);
  if (!caller.has_value()) return absl::UnauthenticatedError(kRemovedFromFarm);
  return Visitor{caller->member.member_id(), caller->member.role()};
}

grpc::ServerUnaryReactor* ClientServiceImpl::OpenWeb(grpc::CallbackServerContext* context,
                                                     const farm::v1::OpenWebRequest* request,
                                                     farm::v1::OpenWebResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto answer = [&]() -> absl::StatusOr<farm::v1::OpenWebResponse> {
    const absl::StatusOr<Visitor> visitor = VisitorOf(*context);
    if (!visitor.ok()) return visitor.status();
    farm::v1::OpenWebRequest wanted = *request;
    if (wanted.role() == farm::v1::ROLE_UNSPECIFIED) wanted.set_role(visitor->role);
    if (wanted.role() > visitor->role && farm::v1::Role_IsValid(wanted.role())) {
      const std::string role = plan::RoleName(wanted.role());
      return absl::PermissionDeniedError(
          absl::StrCat("you are a ", plan::RoleName(visitor->role), " of this farm, and the page as ", role,
                       " takes that role: leave --role out, or ask the farm's owner to add you as one (storyctl user "
                       "add --role ",
                       role, ")"));
    }
    if (parts_.open_web) return parts_.open_web(wanted);
    return absl::FailedPreconditionError(
        "This coordinator serves no web page: it was started with --web off. Start it without that.");
  };
  absl::StatusOr<farm::v1::OpenWebResponse> link = answer();
  if (link.ok()) *response = *std::move(link);
  reactor->Finish(ToGrpc(link.status(), context));
  return reactor;
}

grpc::ServerBidiReactor<farm::v1::WebBytes, farm::v1::WebBytes>* ClientServiceImpl::WebTunnel(
    grpc::CallbackServerContext* context) {
  const absl::StatusOr<Visitor> visitor = VisitorOf(*context);
  if (!visitor.ok()) return parts_.tunnels->Refuse(visitor.status());
  return parts_.tunnels->Open(visitor->member_id, visitor->role);
}

}  // namespace storyfarm::coordinator
