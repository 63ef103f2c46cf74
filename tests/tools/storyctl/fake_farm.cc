#include "tests/tools/storyctl/fake_farm.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include "pipeline/base/digest.h"
#include "pipeline/plan/limits.h"

namespace storyfarm::storyctl {
namespace {

grpc::Status NotFound(const std::string& what) {
  return grpc::Status(grpc::StatusCode::NOT_FOUND, "there is no " + what);
}

}  // namespace

struct FakeFarm::Client final : farm::v1::ClientService::Service {
  explicit Client(FakeFarm* farm) : farm(farm) {}

  grpc::Status Submit(grpc::ServerContext*, const farm::v1::SubmitRequest* request,
                      farm::v1::SubmitResponse* response) override {
    const std::lock_guard lock(farm->mutex);
    if (farm->refuse_submits > 0) {
      --farm->refuse_submits;
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "taking over");
    }
    if (!farm->submit_answer.ok()) return farm->submit_answer;
    for (const farm::v1::FontFile& font : request->fonts()) {
      if (farm->blobs.count(font.blob().digest()) == 0) return NotFound("font " + font.file_name());
    }
    farm->submitted.push_back(*request);
    const auto [job, is_new] =
        farm->job_of_key.try_emplace(request->idempotency_key(), "j-" + std::to_string(farm->job_of_key.size()));
    response->set_job_id(job->second);
    response->set_existed(!is_new);
    response->mutable_warnings()->Assign(farm->submit_warnings.begin(), farm->submit_warnings.end());
    return grpc::Status::OK;
  }

  grpc::Status GetJob(grpc::ServerContext*, const farm::v1::GetJobRequest* request,
                      farm::v1::JobStatus* response) override {
    const std::lock_guard lock(farm->mutex);
    const auto job = farm->jobs.find(request->job_id());
    if (job == farm->jobs.end()) return NotFound("job " + request->job_id());
    *response = job->second.back();
    if (!request->with_tasks()) response->clear_tasks();
    return grpc::Status::OK;
  }

  grpc::Status ListJobs(grpc::ServerContext*, const farm::v1::ListJobsRequest* request,
                        farm::v1::ListJobsResponse* response) override {
    const std::lock_guard lock(farm->mutex);
    auto job = farm->jobs.upper_bound(request->page_token());
    while (job != farm->jobs.end() && response->jobs_size() < static_cast<int>(request->page_size())) {
      if (request->live() && job->second.back().finished_unix_ms() > 0) {
        ++job;
        continue;
      }
      *response->add_jobs() = job->second.back();
      response->set_next_page_token(job->first);
      ++job;
    }
    if (job == farm->jobs.end()) response->clear_next_page_token();
    return grpc::Status::OK;
  }

  grpc::Status WatchJob(grpc::ServerContext*, const farm::v1::GetJobRequest* request,
                        grpc::ServerWriter<farm::v1::JobStatus>* writer) override {
    std::vector<farm::v1::JobStatus> statuses;
    bool breaks = false;
    {
      const std::lock_guard lock(farm->mutex);
      const auto job = farm->jobs.find(request->job_id());
      if (job == farm->jobs.end()) return NotFound("job " + request->job_id());
      statuses = job->second;
      breaks = farm->broken_watches > 0;
      if (breaks) --farm->broken_watches;
    }
    for (const farm::v1::JobStatus& status : statuses) {
      writer->Write(status);
      if (breaks) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "going down");
    }
    return grpc::Status::OK;
  }

  grpc::Status CancelJob(grpc::ServerContext*, const farm::v1::CancelJobRequest* request,
                         farm::v1::JobStatus* response) override {
    const std::lock_guard lock(farm->mutex);
    const auto job = farm->jobs.find(request->job_id());
    if (job == farm->jobs.end()) return NotFound("job " + request->job_id());
    if (job->second.back().state() == farm::v1::JOB_DONE) {
      return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "the job has ended already");
    }
    job->second.back().set_state(farm::v1::JOB_CANCELLED);
    *response = job->second.back();
    return grpc::Status::OK;
  }

  grpc::Status ChangeJob(grpc::ServerContext*, const farm::v1::ChangeJobRequest* request,
                         farm::v1::JobStatus* response) override {
    const std::lock_guard lock(farm->mutex);
    const auto job = farm->jobs.find(request->job_id());
    if (job == farm->jobs.end()) return NotFound("job " + request->job_id());
    if (request->has_paused()) job->second.back().set_paused(request->paused());
    *response = job->second.back();
    return grpc::Status::OK;
  }

  grpc::Status RetryJob(grpc::ServerContext*, const farm::v1::RetryJobRequest* request,
                        farm::v1::JobStatus* response) override {
    const std::lock_guard lock(farm->mutex);
    const std::string id = request->has_task() ? request->task().job_id() : request->job_id();
    const auto job = farm->jobs.find(id);
    if (job == farm->jobs.end()) return NotFound("job " + id);
    if (job->second.back().frames_failed() == 0) {
      return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "no task of job " + id + " has failed");
    }
    job->second.back().set_frames_failed(0);
    job->second.back().set_state(farm::v1::JOB_RUNNING);
    *response = job->second.back();
    farm->retried.push_back(*request);
    return grpc::Status::OK;
  }

  grpc::Status ReadLog(grpc::ServerContext*, const farm::v1::ReadLogRequest* request,
                       farm::v1::ReadLogResponse* response) override {
    const std::lock_guard lock(farm->mutex);
    farm->log_requests.push_back(*request);
    if (farm->log.empty()) return NotFound("node " + request->node());
    *response = farm->log.front();
    farm->log.pop_front();
    return grpc::Status::OK;
  }

  grpc::Status ListOutputs(grpc::ServerContext*, const farm::v1::ListOutputsRequest* request,
                           farm::v1::ListOutputsResponse* response) override {
    const std::lock_guard lock(farm->mutex);
    *response = farm->outputs[request->job_id()];
    return grpc::Status::OK;
  }

  grpc::Status ListNodes(grpc::ServerContext*, const farm::v1::ListNodesRequest*,
                         farm::v1::ListNodesResponse* response) override {
    const std::lock_guard lock(farm->mutex);
    *response = farm->nodes;
    return grpc::Status::OK;
  }

  grpc::Status LimitNode(grpc::ServerContext*, const farm::v1::LimitNodeRequest* request,
                         farm::v1::LimitNodeResponse* response) override {
    const std::lock_guard lock(farm->mutex);
    farm->limited.push_back(*request);
    for (farm::v1::NodeStatus& node : *farm->nodes.mutable_nodes()) {
      if (node.name() != request->node()) continue;
      *node.mutable_limits() = plan::ChangeLimits(node.limits(), *request).value();
      *response->mutable_node() = node;
      response->add_warnings("within these limits it does not draw with all models");
      return grpc::Status::OK;
    }
    return NotFound("node " + request->node());
  }

  grpc::Status AddModel(grpc::ServerContext*, const farm::v1::AddModelRequest* request,
                        farm::v1::ModelManifest* response) override {
    const std::lock_guard lock(farm->mutex);
    for (const farm::v1::ModelFile& file : request->model().files()) {
      if (farm->blobs.count(file.blob().digest()) == 0) return NotFound("blob of " + file.path());
    }
    farm->models.push_back(request->model());
    *response = request->model();
    return grpc::Status::OK;
  }

  grpc::Status ListModels(grpc::ServerContext*, const farm::v1::ListModelsRequest*,
                          farm::v1::ListModelsResponse* response) override {
    const std::lock_guard lock(farm->mutex);
    for (const farm::v1::ModelManifest& model : farm->models) *response->add_models() = model;
    return grpc::Status::OK;
  }

  grpc::Status ListPacks(grpc::ServerContext*, const farm::v1::ListPacksRequest* request,
                         farm::v1::ListPacksResponse* response) override {
    const std::lock_guard lock(farm->mutex);
    for (const farm::v1::PackStatus& pack : farm->packs) {
      if (request->pack().empty() || request->pack() == pack.name()) *response->add_packs() = pack;
    }
    if (!request->pack().empty() && response->packs().empty()) return NotFound("pack " + request->pack());
    return grpc::Status::OK;
  }

  grpc::Status NamePack(grpc::ServerContext*, const farm::v1::NamePackRequest* request,
                        farm::v1::PackStatus* response) override {
    const std::lock_guard lock(farm->mutex);
    for (farm::v1::PackStatus& pack : farm->packs) {
      if (pack.name() != request->pack()) continue;
      pack.set_name(request->name());
      *response = pack;
      return grpc::Status::OK;
    }
    return NotFound("pack " + request->pack());
  }

  grpc::Status RemovePack(grpc::ServerContext*, const farm::v1::RemovePackRequest* request,
                          farm::v1::RemovePackResponse*) override {
    const std::lock_guard lock(farm->mutex);
    for (auto pack = farm->packs.begin(); pack != farm->packs.end(); ++pack) {
      if (pack->name() != request->pack()) continue;
      if (!pack->live_jobs().empty()) {
        return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "job " + pack->live_jobs(0) + " needs it");
      }
      farm->packs.erase(pack);
      return grpc::Status::OK;
    }
    return NotFound("pack " + request->pack());
  }

  FakeFarm* const farm;
};

struct FakeFarm::Blobs final : farm::v1::BlobService::Service {
  explicit Blobs(FakeFarm* farm) : farm(farm) {}

  grpc::Status FindMissing(grpc::ServerContext*, const farm::v1::FindMissingRequest* request,
                           farm::v1::FindMissingResponse* response) override {
    const std::lock_guard lock(farm->mutex);
    for (const farm::v1::BlobRef& blob : request->blobs()) {
      if (farm->blobs.count(blob.digest()) == 0) *response->add_missing() = blob;
    }
    return grpc::Status::OK;
  }

  grpc::Status QueryWrite(grpc::ServerContext*, const farm::v1::QueryWriteRequest* request,
                          farm::v1::QueryWriteResponse* response) override {
    const std::lock_guard lock(farm->mutex);
    response->set_complete(farm->blobs.count(request->blob().digest()) > 0);
    return grpc::Status::OK;
  }

  grpc::Status Write(grpc::ServerContext*, grpc::ServerReader<farm::v1::WriteRequest>* reader,
                     farm::v1::WriteResponse* response) override {
    farm::v1::WriteRequest request;
    std::string digest;
    std::string bytes;
    while (reader->Read(&request)) {
      if (request.has_blob()) digest = request.blob().digest();
      bytes += request.data();
    }
    if (base::Digest::Of(bytes).Bytes() != digest) return grpc::Status(grpc::StatusCode::DATA_LOSS, "wrong bytes");
    const std::lock_guard lock(farm->mutex);
    response->set_committed_bytes(bytes.size());
    farm->blobs[digest] = std::move(bytes);
    return grpc::Status::OK;
  }

  grpc::Status Read(grpc::ServerContext*, const farm::v1::ReadRequest* request,
                    grpc::ServerWriter<farm::v1::ReadResponse>* writer) override {
    farm::v1::ReadResponse response;
    {
      const std::lock_guard lock(farm->mutex);
      const auto blob = farm->blobs.find(request->digest());
      if (blob == farm->blobs.end()) return NotFound("blob");
      ++farm->reads;
      response.set_size_bytes(blob->second.size());
      response.set_data(blob->second.substr(request->offset_bytes()));
    }
    writer->Write(response);
    return grpc::Status::OK;
  }

  FakeFarm* const farm;
};

struct FakeFarm::Trust : farm::v1::TrustService::Service {
  explicit Trust(FakeFarm* of) : farm(of) {}

  grpc::Status Invite(grpc::ServerContext*, const farm::v1::InviteRequest* request,
                      farm::v1::InviteResponse* response) override {
    const std::lock_guard lock(farm->mutex);
    farm->invited.push_back(*request);
    response->set_code("farm-code-of-" + request->name());
    response->set_expires_in_ms(900'000);
    return grpc::Status::OK;
  }
  grpc::Status ListMembers(grpc::ServerContext*, const farm::v1::ListMembersRequest*,
                           farm::v1::ListMembersResponse* response) override {
    const std::lock_guard lock(farm->mutex);
    *response = farm->members;
    return grpc::Status::OK;
  }
  grpc::Status RenameMember(grpc::ServerContext*, const farm::v1::RenameMemberRequest* request,
                            farm::v1::Member* response) override {
    const std::lock_guard lock(farm->mutex);
    for (farm::v1::Member& member : *farm->members.mutable_members()) {
      if (member.name() != request->member()) continue;
      member.set_name(request->name());
      *response = member;
      return grpc::Status::OK;
    }
    return NotFound("worker");
  }
  grpc::Status RemoveMember(grpc::ServerContext*, const farm::v1::RemoveMemberRequest* request,
                            farm::v1::Member* response) override {
    const std::lock_guard lock(farm->mutex);
    auto& members = *farm->members.mutable_members();
    for (auto member = members.begin(); member != members.end(); ++member) {
      if (member->name() != request->member()) continue;
      *response = *member;
      members.erase(member);
      return grpc::Status::OK;
    }
    return NotFound("worker");
  }

  FakeFarm* const farm;
};

FakeFarm::FakeFarm(const std::string& socket_path)
    : socket_path_(socket_path),
      client_(std::make_unique<Client>(this)),
      blob_service_(std::make_unique<Blobs>(this)),
      trust_(std::make_unique<Trust>(this)) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(target(), grpc::InsecureServerCredentials());
  builder.RegisterService(client_.get());
  builder.RegisterService(blob_service_.get());
  builder.RegisterService(trust_.get());
  server_ = builder.BuildAndStart();
}

FakeFarm::~FakeFarm() { server_->Shutdown(); }

farm::v1::BlobRef FakeFarm::Put(const std::string& bytes) {
  const std::lock_guard lock(mutex);
  farm::v1::BlobRef ref;
  ref.set_digest(base::Digest::Of(bytes).Bytes());
  ref.set_size_bytes(bytes.size());
  blobs[ref.digest()] = bytes;
  return ref;
}

bool FakeFarm::Has(const std::string& digest) {
  const std::lock_guard lock(mutex);
  return blobs.count(digest) > 0;
}

}  // namespace storyfarm::storyctl
