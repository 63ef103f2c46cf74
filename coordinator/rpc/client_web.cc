// ClientService, the side that watching needs: figures for monitoring, links to the web page.
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <utility>

#include "coordinator/rpc/client_service.h"
#include "coordinator/rpc/status.h"

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

grpc::ServerUnaryReactor* ClientServiceImpl::OpenWeb(grpc::CallbackServerContext* context,
                                                     const farm::v1::OpenWebRequest* request,
                                                     farm::v1::OpenWebResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::StatusOr<farm::v1::OpenWebResponse> link = absl::FailedPreconditionError(
      "This coordinator serves no web page: it was started with --web off. Start it without that.");
  if (parts_.open_web) link = parts_.open_web(*request);
  if (link.ok()) *response = *std::move(link);
  reactor->Finish(ToGrpc(link.status(), context));
  return reactor;
}

}  // namespace storyfarm::coordinator
