// ClientService: what storyctl asks for. What is quick goes to the loop at once; stories and models go through the pool
// first. Behind server.h.
#ifndef STORYFARM_COORDINATOR_RPC_CLIENT_SERVICE_H_
#define STORYFARM_COORDINATOR_RPC_CLIENT_SERVICE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "coordinator/blob/blob_store.h"
#include "coordinator/rpc/backup.h"
#include "coordinator/rpc/guard.h"
#include "coordinator/rpc/job_reader.h"
#include "coordinator/rpc/log_book.h"
#include "coordinator/rpc/loop.h"
#include "coordinator/rpc/tally.h"
#include "coordinator/rpc/watch.h"
#include "coordinator/rpc/web_tunnels.h"
#include "coordinator/rpc/work_pool.h"
#include "farm/v1/client.grpc.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/plan/pack.h"

namespace storyfarm::coordinator {

// Outlives the gRPC server that it is registered with.
class ClientServiceImpl : public farm::v1::ClientService::CallbackService {
 public:
  // All of it outlives the service.
  struct Parts {
    Loop* loop = nullptr;
    JobReader* reader = nullptr;
    WatchHub* watches = nullptr;
    WorkPool* pool = nullptr;
    BlobStore* blobs = nullptr;
    const LogBook* log_book = nullptr;
    base::Env* env = nullptr;
    std::function<uint64_t()> random_bits;
    size_t reply_bytes = 0;
    const Tally* tally = nullptr;
    // A link to the web page; empty: there is none.
    std::function<absl::StatusOr<farm::v1::OpenWebResponse>(const farm::v1::OpenWebRequest&)> open_web;
    WebTunnels* tunnels = nullptr;
    const Guard* guard = nullptr;  // who calls from other machines
    BackupParts backup;
  };
  explicit ClientServiceImpl(Parts parts) : parts_(std::move(parts)) {}

  grpc::ServerUnaryReactor* Submit(grpc::CallbackServerContext* context, const farm::v1::SubmitRequest* request,
                                   farm::v1::SubmitResponse* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context, const farm::v1::GetJobRequest* request,
                                   farm::v1::JobStatus* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context, const farm::v1::ListJobsRequest* request,
                                     farm::v1::ListJobsResponse* response) override;
  grpc::ServerWriteReactor<farm::v1::JobStatus>* WatchJob(grpc::CallbackServerContext* context,
                                                          const farm::v1::GetJobRequest* request) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context, const farm::v1::CancelJobRequest* request,
                                      farm::v1::JobStatus* response) override;
  grpc::ServerUnaryReactor* RemoveJob(grpc::CallbackServerContext* context, const farm::v1::RemoveJobRequest* request,
                                      farm::v1::RemoveJobResponse* response) override;
  grpc::ServerUnaryReactor* ChangeJob(grpc::CallbackServerContext* context, const farm::v1::ChangeJobRequest* request,
                                      farm::v1::JobStatus* response) override;
  grpc::ServerUnaryReactor* RetryJob(grpc::CallbackServerContext* context, const farm::v1::RetryJobRequest* request,
                                     farm::v1::JobStatus* response) override;
  grpc::ServerUnaryReactor* ReadLog(grpc::CallbackServerContext* context, const farm::v1::ReadLogRequest* request,
                                    farm::v1::ReadLogResponse* response) override;
  grpc::ServerUnaryReactor* ExplainTask(grpc::CallbackServerContext* context,
                                        const farm::v1::ExplainTaskRequest* request,
                                        farm::v1::Explanation* response) override;
  grpc::ServerUnaryReactor* DrainNode(grpc::CallbackServerContext* context, const farm::v1::DrainNodeRequest* request,
                                      farm::v1::NodeStatus* response) override;
  grpc::ServerUnaryReactor* LimitNode(grpc::CallbackServerContext* context, const farm::v1::LimitNodeRequest* request,
                                      farm::v1::LimitNodeResponse* response) override;
  grpc::ServerUnaryReactor* ListOutputs(grpc::CallbackServerContext* context,
                                        const farm::v1::ListOutputsRequest* request,
                                        farm::v1::ListOutputsResponse* response) override;
  grpc::ServerUnaryReactor* ListNodes(grpc::CallbackServerContext* context, const farm::v1::ListNodesRequest* request,
                                      farm::v1::ListNodesResponse* response) override;
  grpc::ServerUnaryReactor* AddModel(grpc::CallbackServerContext* context, const farm::v1::AddModelRequest* request,
                                     farm::v1::ModelManifest* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context, const farm::v1::ListModelsRequest* request,
                                       farm::v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* ListPacks(grpc::CallbackServerContext* context, const farm::v1::ListPacksRequest* request,
                                      farm::v1::ListPacksResponse* response) override;
  grpc::ServerUnaryReactor* NamePack(grpc::CallbackServerContext* context, const farm::v1::NamePackRequest* request,
                                     farm::v1::PackStatus* response) override;
  grpc::ServerUnaryReactor* RemovePack(grpc::CallbackServerContext* context, const farm::v1::RemovePackRequest* request,
                                       farm::v1::RemovePackResponse* response) override;
  grpc::ServerWriteReactor<farm::v1::BackupChunk>* Backup(grpc::CallbackServerContext* context,
                                                          const farm::v1::BackupRequest* request) override;
  grpc::ServerUnaryReactor* GetFigures(grpc::CallbackServerContext* context, const farm::v1::GetFiguresRequest* request,
                                       farm::v1::Figures* response) override;
  grpc::ServerUnaryReactor* OpenWeb(grpc::CallbackServerContext* context, const farm::v1::OpenWebRequest* request,
                                    farm::v1::OpenWebResponse* response) override;
  grpc::ServerBidiReactor<farm::v1::WebBytes, farm::v1::WebBytes>* WebTunnel(
      grpc::CallbackServerContext* context) override;

 private:
  // Answers one call: fills the response and finishes.
  struct Call;
  // What the farm knows of a submission before it is planned.
  struct Known;

  void SubmitOnPool(const Call& call, const farm::v1::SubmitRequest& request, farm::v1::SubmitResponse* response);
  // Called from the pool; waits for the loop and, where `durable`, until all that it saw is.
  absl::Status AskWhatIsKnown(const std::string& key, const farm::v1::Story& story, bool durable, Known* known);

  // ---- client_changes.cc
  // Answers a call about a node with what it is now.
  void AnswerWithNode(const std::string& node_id, farm::v1::NodeStatus* response, grpc::ServerUnaryReactor* reactor,
                      grpc::CallbackServerContext* context);

  // ---- client_web.cc
  struct Visitor {
    std::string member_id;  // empty: of this machine, whose owner may do everything
    farm::v1::Role role = farm::v1::ROLE_ADMIN;
  };
  // UNAUTHENTICATED where the member was removed since the call was let in.
  absl::StatusOr<Visitor> VisitorOf(const grpc::CallbackServerContext& context) const;

  // ---- client_packs.cc
  // The packs that a story names, as far as the farm has them.
  static plan::NamedPacks LookUpPacks(const Farm& farm, const farm::v1::Story& story);
  static std::string FilesMissing(const std::string& name);
  // Notes where files of one are missing.
  void CheckPacks(plan::NamedPacks& packs);
  // Of the packs that a job would take, those of which files are missing. Called from the pool; waits for the loop.
  absl::StatusOr<std::vector<LostPack>> FindLostPacks(const farm::v1::JobSpec& job);

  // OK where the response may be sent, else RESOURCE_EXHAUSTED.
  absl::Status CheckSize(const google::protobuf::MessageLite& response) const;

  const Parts parts_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_CLIENT_SERVICE_H_
