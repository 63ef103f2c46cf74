#include "coordinator/rpc/client_service.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/metadata.h"
#include "coordinator/rpc/models.h"
#include "coordinator/rpc/status.h"
#include "coordinator/rpc/submit.h"

namespace storyfarm::coordinator {

using farm::v1::JobArchive;
using farm::v1::JobStatus;

// gRPC keeps request, response and reactor alive until Finish.
struct ClientServiceImpl::Call {
  grpc::CallbackServerContext* context;
  grpc::ServerUnaryReactor* reactor;

  explicit Call(grpc::CallbackServerContext* of) : context(of), reactor(of->DefaultReactor()) {}
  void Finish(const absl::Status& status) const { reactor->Finish(ToGrpc(status, context)); }
};

struct ClientServiceImpl::Known {
  std::optional<std::string> job_id;  // that the key made
  std::string request_digest;         // of what
  std::optional<farm::v1::ModelManifest> model;
  std::vector<std::string> models;  // all names
  plan::NamedPacks packs;
};

absl::Status ClientServiceImpl::CheckSize(const google::protobuf::MessageLite& response) const {
  const size_t bytes = response.ByteSizeLong();
  if (bytes <= parts_.reply_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("The answer has ", bytes, " bytes; at most ", parts_.reply_bytes, " are sent. Ask for less."));
}

grpc::ServerUnaryReactor* ClientServiceImpl::Submit(grpc::CallbackServerContext* context,
                                                    const farm::v1::SubmitRequest* request,
                                                    farm::v1::SubmitResponse* response) {
  const Call call(context);
  parts_.pool->Post([this, call, request, response](const absl::Status& status) {
    if (!status.ok()) return call.Finish(status);
    SubmitOnPool(call, *request, response);
  });
  return call.reactor;
}

void ClientServiceImpl::SubmitOnPool(const Call& call, const farm::v1::SubmitRequest& request,
                                     farm::v1::SubmitResponse* response) {
  absl::StatusOr<Submission> submission = ReadSubmission(request);
  if (!submission.ok()) return call.Finish(submission.status());
  Known known;
  // The usual case, a new story of a known model, need not wait until that is durable: its own record comes after it.
  // Whatever else is answered does.
  const auto ask = [&](bool durable) {
    return AskWhatIsKnown(request.idempotency_key(), submission->story, durable, &known);
  };
  absl::Status status = ask(false);
  if (status.ok() && (known.job_id.has_value() || !known.model.has_value())) status = ask(true);
  if (!status.ok()) return call.Finish(status);
  // Told apart before planning: the same submission sent again is answered even where it could not be planned any more.
  if (known.job_id.has_value() && known.request_digest == submission->request_digest) {
    response->set_job_id(*known.job_id);
    response->set_existed(true);
    return call.Finish(absl::OkStatus());
  }
  if (!known.model.has_value()) return call.Finish(UnknownModel(request.file_name(), submission->model, known.models));
  CheckPacks(known.packs);
  absl::StatusOr<farm::v1::JobSpec> job =
      PlanSubmission(request, *known.model, known.packs, *parts_.blobs, *submission);
  if (!job.ok()) {
    status = ask(true);
    return call.Finish(status.ok() ? job.status() : status);
  }
  absl::StatusOr<std::vector<LostPack>> lost = FindLostPacks(*job);
  if (!lost.ok()) return call.Finish(lost.status());
  job->set_job_id(JobIdFrom(parts_.random_bits()));
  job->set_submitted_unix_ms(static_cast<uint64_t>(parts_.env->NowUnixMs()));
  const auto packed = parts_.loop->Pack(*job);
  const auto spec = std::make_shared<farm::v1::JobSpec>(*std::move(job));
  const auto warnings = std::make_shared<std::vector<farm::v1::Problem>>(std::move(submission->warnings));
  parts_.loop->Ask(
      [spec, packed, lost = *std::move(lost)](uint64_t number) {
        SubmitJob input;
        input.request = number;
        input.spec = std::move(*spec);
        input.lost_packs = lost;
        return Input(std::move(input));
      },
      [call, response, warnings](const Reply& reply) {
        response->set_job_id(reply.job_id);
        response->set_existed(reply.existed);
        if (reply.status.ok() && !reply.existed)
          response->mutable_warnings()->Assign(warnings->begin(), warnings->end());
        call.Finish(reply.status);
      });
}

absl::Status ClientServiceImpl::AskWhatIsKnown(const std::string& key, const farm::v1::Story& story, bool durable,
                                               Known* known) {
  std::promise<absl::Status> answered;
  const auto look = [&](const Farm& farm) {
    *known = Known();
    known->job_id = farm.FindKey(key, &known->request_digest);
    known->packs = LookUpPacks(farm, story);
    if (const farm::v1::ModelManifest* found = farm.FindModel(story.model())) {
      known->model = *found;
    } else {
      for (const farm::v1::ModelManifest& each : farm.ListModels()) known->models.push_back(each.name());
    }
  };
  const auto answer = [&answered](const absl::Status& status) { answered.set_value(status); };
  if (durable) {
    parts_.loop->Look([look](const Farm& farm, const Time&) { look(farm); }, answer);
  } else {
    parts_.loop->Peek(look, answer);
  }
  return answered.get_future().get();
}

grpc::ServerUnaryReactor* ClientServiceImpl::GetJob(grpc::CallbackServerContext* context,
                                                    const farm::v1::GetJobRequest* request, JobStatus* response) {
  const Call call(context);
  JobReader::Parts parts;
  parts.tasks = request->with_tasks();
  parts_.reader->Read(request->job_id(), parts, [this, call, response](absl::StatusOr<JobArchive> body) {
    if (!body.ok()) return call.Finish(body.status());
    *response = std::move(*body->mutable_status());
    call.Finish(CheckSize(*response));
  });
  return call.reactor;
}

grpc::ServerUnaryReactor* ClientServiceImpl::ListJobs(grpc::CallbackServerContext* context,
                                                      const farm::v1::ListJobsRequest* request,
                                                      farm::v1::ListJobsResponse* response) {
  const Call call(context);
  parts_.reader->List(*request, [this, call, response](absl::StatusOr<farm::v1::ListJobsResponse> jobs) {
    if (!jobs.ok()) return call.Finish(jobs.status());
    *response = *std::move(jobs);
    call.Finish(CheckSize(*response));
  });
  return call.reactor;
}

grpc::ServerWriteReactor<JobStatus>* ClientServiceImpl::WatchJob(grpc::CallbackServerContext*,
                                                                 const farm::v1::GetJobRequest* request) {
  return parts_.watches->Open(request->job_id(), request->with_tasks());
}

grpc::ServerWriteReactor<farm::v1::BackupChunk>* ClientServiceImpl::Backup(grpc::CallbackServerContext*,
                                                                           const farm::v1::BackupRequest*) {
  return StreamBackup(parts_.backup);
}

grpc::ServerUnaryReactor* ClientServiceImpl::CancelJob(grpc::CallbackServerContext* context,
                                                       const farm::v1::CancelJobRequest* request, JobStatus* response) {
  const Call call(context);
  const std::string job_id = request->job_id();
  const auto status_of = [this, call, response, job_id](const Reply& reply) {
    if (!reply.status.ok()) return call.Finish(reply.status);
    parts_.reader->Read(job_id, {}, [call, response](absl::StatusOr<JobArchive> body) {
      if (!body.ok()) return call.Finish(body.status());
      *response = std::move(*body->mutable_status());
      call.Finish(absl::OkStatus());
    });
  };
  parts_.loop->Ask([job_id](uint64_t number) { return Input(coordinator::CancelJob{number, job_id}); }, status_of);
  return call.reactor;
}

grpc::ServerUnaryReactor* ClientServiceImpl::ListOutputs(grpc::CallbackServerContext* context,
                                                         const farm::v1::ListOutputsRequest* request,
                                                         farm::v1::ListOutputsResponse* response) {
  const Call call(context);
  JobReader::Parts parts;
  parts.tasks = true;
  parts.spec = true;
  parts_.reader->Read(request->job_id(), parts, [this, call, response](absl::StatusOr<JobArchive> body) {
    if (!body.ok()) return call.Finish(body.status());
    // Of 20,000 panels these are megabytes: not on the loop's thread.
    const auto shared = std::make_shared<JobArchive>(*std::move(body));
    parts_.pool->Post([this, call, response, shared](const absl::Status& status) {
      if (!status.ok()) return call.Finish(status);
      for (farm::v1::Output& output : OutputsOf(shared->status())) *response->add_outputs() = std::move(output);
      response->set_metadata_json(MetadataJson(*shared));
      call.Finish(CheckSize(*response));
    });
  });
  return call.reactor;
}

grpc::ServerUnaryReactor* ClientServiceImpl::ListNodes(grpc::CallbackServerContext* context,
                                                       const farm::v1::ListNodesRequest*,
                                                       farm::v1::ListNodesResponse* response) {
  const Call call(context);
  const auto look = [response](const Farm& farm, const Time& now) {
    for (farm::v1::NodeStatus& node : farm.ListNodes(now)) *response->add_nodes() = std::move(node);
  };
  parts_.loop->Look(look, [this, call, response](const absl::Status& status) {
    call.Finish(status.ok() ? CheckSize(*response) : status);
  });
  return call.reactor;
}

grpc::ServerUnaryReactor* ClientServiceImpl::AddModel(grpc::CallbackServerContext* context,
                                                      const farm::v1::AddModelRequest* request,
                                                      farm::v1::ModelManifest* response) {
  const Call call(context);
  parts_.pool->Post([this, call, request, response](const absl::Status& status) {
    if (!status.ok()) return call.Finish(status);
    absl::StatusOr<farm::v1::ModelManifest> model = CheckModel(request->model(), *parts_.blobs);
    if (!model.ok()) return call.Finish(model.status());
    *response = *std::move(model);
    parts_.loop->Ask(
        [response](uint64_t number) {
          coordinator::AddModel input;
          input.request = number;
          input.model = *response;
          return Input(std::move(input));
        },
        [call](const Reply& reply) { call.Finish(reply.status); });
  });
  return call.reactor;
}

grpc::ServerUnaryReactor* ClientServiceImpl::ListModels(grpc::CallbackServerContext* context,
                                                        const farm::v1::ListModelsRequest*,
                                                        farm::v1::ListModelsResponse* response) {
  const Call call(context);
  const auto look = [response](const Farm& farm, const Time&) {
    for (farm::v1::ModelManifest& model : farm.ListModels()) *response->add_models() = std::move(model);
  };
  parts_.loop->Look(look, [this, call, response](const absl::Status& status) {
    call.Finish(status.ok() ? CheckSize(*response) : status);
  });
  return call.reactor;
}

}  // namespace storyfarm::coordinator
