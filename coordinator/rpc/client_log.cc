// ClientService::ReadLog.
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/client_service.h"
#include "coordinator/rpc/status.h"

namespace storyfarm::coordinator {
namespace {

// What of a request the farm knows; a job or node that it does not know any more may still be in the log.
struct Asked {
  bool job_known = true;
  bool node_known = true;
  std::vector<std::string> nodes;
};

Asked LookUp(const Farm& farm, const Time& now, const farm::v1::ReadLogRequest& request) {
  Asked asked;
  const std::string& job = request.has_task() ? request.task().job_id() : request.job_id();
  asked.job_known = job.empty() || farm.FindJob(job) != JobPlace::kUnknown;
  if (request.node().empty()) return asked;
  asked.nodes = {request.node()};
  asked.node_known = false;
  for (const farm::v1::NodeStatus& node : farm.ListNodes(now)) {
    if (node.node_id() != request.node() && node.name() != request.node()) continue;
    asked.node_known = true;
    asked.nodes.push_back(node.node_id());
    asked.nodes.push_back(node.name());
  }
  return asked;
}

}  // namespace

grpc::ServerUnaryReactor* ClientServiceImpl::ReadLog(grpc::CallbackServerContext* context,
                                                     const farm::v1::ReadLogRequest* request,
                                                     farm::v1::ReadLogResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto asked = std::make_shared<Asked>();
  const auto look = [asked, request](const Farm& farm, const Time& now) { *asked = LookUp(farm, now, *request); };
  parts_.loop->Look(look, [this, reactor, context, asked, request, response](const absl::Status& status) {
    if (!status.ok()) return reactor->Finish(ToGrpc(status, context));
    *response = parts_.log_book->Read(*request, asked->nodes);
    absl::Status known;
    if (response->lines().empty() && !asked->job_known) {
      known = absl::NotFoundError(absl::StrCat("there is no job ", request->has_task() ? request->task().job_id()
                                                                                       : request->job_id(),
                                               ", and no line that is kept of the log names it"));
    }
    if (response->lines().empty() && !asked->node_known) {
      known = absl::NotFoundError(
          absl::StrCat("there is no node ", request->node(), ", and no line that is kept of the log names it"));
    }
    if (known.ok()) known = CheckSize(*response);
    reactor->Finish(ToGrpc(known, context));
  });
  return reactor;
}

}  // namespace storyfarm::coordinator
