// ClientService, the side with which a person steers the farm: jobs removed, paused and moved, machines taken out,
// decisions explained.
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/client_service.h"
#include "coordinator/rpc/status.h"

namespace storyfarm::coordinator {

grpc::ServerUnaryReactor* ClientServiceImpl::RemoveJob(grpc::CallbackServerContext* context,
                                                       const farm::v1::RemoveJobRequest* request,
                                                       farm::v1::RemoveJobResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  parts_.loop->Ask(
      [job_id = request->job_id()](uint64_t number) {
        return Input(ForgetJob{number, job_id});
      },
      [reactor, context](const Reply& reply) { reactor->Finish(ToGrpc(reply.status, context)); });
  return reactor;
}

grpc::ServerUnaryReactor* ClientServiceImpl::ChangeJob(grpc::CallbackServerContext* context,
                                                       const farm::v1::ChangeJobRequest* request,
                                                       farm::v1::JobStatus* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  coordinator::ChangeJob change;
  change.job_id = request->job_id();
  if (request->has_paused()) change.paused = request->paused();
  if (request->has_priority()) change.priority = request->priority();
  const std::string job_id = request->job_id();
  const auto answer = [this, reactor, context, response, job_id](const Reply& reply) {
    if (!reply.status.ok()) return reactor->Finish(ToGrpc(reply.status, context));
    parts_.reader->Read(job_id, {}, [reactor, context, response](absl::StatusOr<farm::v1::JobArchive> body) {
      if (body.ok()) *response = std::move(*body->mutable_status());
      reactor->Finish(ToGrpc(body.status(), context));
    });
  };
  parts_.loop->Ask(
      [change](uint64_t number) {
        coordinator::ChangeJob input = change;
        input.request = number;
        return Input(std::move(input));
      },
      answer);
  return reactor;
}

grpc::ServerUnaryReactor* ClientServiceImpl::RetryJob(grpc::CallbackServerContext* context,
                                                      const farm::v1::RetryJobRequest* request,
                                                      farm::v1::JobStatus* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  coordinator::RetryJob retry;
  retry.job_id = request->has_task() ? request->task().job_id() : request->job_id();
  if (request->has_task()) retry.task = request->task();
  const auto answer = [this, reactor, context, response, job_id = retry.job_id](const Reply& reply) {
    if (!reply.status.ok()) return reactor->Finish(ToGrpc(reply.status, context));
    parts_.reader->Read(job_id, {}, [reactor, context, response](absl::StatusOr<farm::v1::JobArchive> body) {
      if (body.ok()) *response = std::move(*body->mutable_status());
      reactor->Finish(ToGrpc(body.status(), context));
    });
  };
  parts_.loop->Ask(
      [retry](uint64_t number) {
        coordinator::RetryJob input = retry;
        input.request = number;
        return Input(std::move(input));
      },
      answer);
  return reactor;
}

grpc::ServerUnaryReactor* ClientServiceImpl::ExplainTask(grpc::CallbackServerContext* context,
                                                         const farm::v1::ExplainTaskRequest* request,
                                                         farm::v1::Explanation* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto found = std::make_shared<absl::Status>();
  const auto look = [response, found, task = request->task()](const Farm& farm, const Time& now) {
    absl::StatusOr<farm::v1::Explanation> explanation = farm.Explain(now, task);
    *found = explanation.status();
    if (explanation.ok()) *response = *std::move(explanation);
  };
  parts_.loop->Look(look, [reactor, context, found](const absl::Status& status) {
    reactor->Finish(ToGrpc(status.ok() ? *found : status, context));
  });
  return reactor;
}

void ClientServiceImpl::AnswerWithNode(const std::string& node_id, farm::v1::NodeStatus* response,
                                       grpc::ServerUnaryReactor* reactor, grpc::CallbackServerContext* context) {
  const auto look = [response, node_id](const Farm& farm, const Time& now) { *response = farm.GetNode(now, node_id); };
  parts_.loop->Look(look,
                    [reactor, context](const absl::Status& status) { reactor->Finish(ToGrpc(status, context)); });
}

grpc::ServerUnaryReactor* ClientServiceImpl::LimitNode(grpc::CallbackServerContext* context,
                                                       const farm::v1::LimitNodeRequest* request,
                                                       farm::v1::LimitNodeResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto answer = [this, reactor, context, response](const Reply& reply) {
    if (!reply.status.ok()) return reactor->Finish(ToGrpc(reply.status, context));
    response->mutable_warnings()->Assign(reply.warnings.begin(), reply.warnings.end());
    AnswerWithNode(reply.job_id, response->mutable_node(), reactor, context);
  };
  parts_.loop->Ask(
      [change = *request](uint64_t number) {
        coordinator::LimitNode input;
        input.request = number;
        input.change = change;
        return Input(std::move(input));
      },
      answer);
  return reactor;
}

grpc::ServerUnaryReactor* ClientServiceImpl::DrainNode(grpc::CallbackServerContext* context,
                                                       const farm::v1::DrainNodeRequest* request,
                                                       farm::v1::NodeStatus* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  coordinator::DrainNode drain;
  drain.node = request->node();
  drain.drained = request->drained();
  drain.at_once = request->at_once();
  const auto answer = [this, reactor, context, response](const Reply& reply) {
    if (!reply.status.ok()) return reactor->Finish(ToGrpc(reply.status, context));
    AnswerWithNode(reply.job_id, response, reactor, context);
  };
  parts_.loop->Ask(
      [drain](uint64_t number) {
        coordinator::DrainNode input = drain;
        input.request = number;
        return Input(std::move(input));
      },
      answer);
  return reactor;
}

}  // namespace storyfarm::coordinator
