#include "coordinator/rpc/web_door.h"

#include <grpcpp/client_context.h>
#include <grpcpp/support/channel_arguments.h>

#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "farm/v1/blob.grpc.pb.h"
#include "farm/v1/client.grpc.pb.h"
#include "pipeline/base/farm_channel.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::BlobService;
using farm::v1::ClientService;

// The socket is away for a moment while the coordinator changes between standing by and leading.
constexpr int kReconnectMs = 100;
constexpr int kMostReconnectMs = 1'000;
// A job of 20,000 panels with its tasks.
constexpr int kReplyBytes = 16 << 20;

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // gRPC's own words for a socket that is away tell a person nothing.
  for (const char* words : {"failed to connect", "Socket closed", "Connection reset by peer", "Endpoint closing"}) {
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE || !absl::StrContains(status.error_message(), words)) continue;
    return absl::UnavailableError("The coordinator is not serving just now; the page asks again by itself.");
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

std::chrono::system_clock::time_point Deadline() {
  return std::chrono::system_clock::now() + std::chrono::seconds(kDoorSeconds);
}

class GrpcJobStream : public JobStream {
 public:
  GrpcJobStream(ClientService::Stub& client, const std::string& job_id) {
    request_.set_job_id(job_id);
    request_.set_with_tasks(true);
    stream_ = client.WatchJob(&context_, request_);
  }
  ~GrpcJobStream() override {
    Cancel();
    while (!ended_.has_value()) Read().status().IgnoreError();  // nobody asks any more
  }
  absl::StatusOr<farm::v1::JobStatus> Next() override { return ended_.has_value() ? *ended_ : Read(); }
  void Cancel() override { context_.TryCancel(); }

 private:
  absl::StatusOr<farm::v1::JobStatus> Read() {
    farm::v1::JobStatus status;
    if (stream_->Read(&status)) return status;
    ended_ = FromGrpc(stream_->Finish());
    if (ended_->ok()) ended_ = absl::OutOfRangeError("the job has ended");
    return *ended_;
  }

  farm::v1::GetJobRequest request_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<farm::v1::JobStatus>> stream_;
  std::optional<absl::Status> ended_;  // why there is no more
};

class GrpcBlobStream : public BlobStream {
 public:
  GrpcBlobStream(BlobService::Stub& blobs, const std::string& digest) {
    farm::v1::ReadRequest request;
    request.set_digest(digest);
    stream_ = blobs.Read(&context_, request);
  }
  ~GrpcBlobStream() override {
    context_.TryCancel();
    while (!ended_ && Read().ok()) {
    }
  }
  // The first piece, which tells the size; or why there is none.
  absl::Status Begin() {
    absl::StatusOr<std::string> first = Read();
    if (!first.ok()) return first.status();
    size_bytes_ = piece_.size_bytes();
    first_ = *std::move(first);
    return absl::OkStatus();
  }
  uint64_t size_bytes() const override { return size_bytes_; }
  absl::StatusOr<std::string> Next() override {
    if (first_.has_value()) return *std::exchange(first_, std::nullopt);
    return ended_ ? std::string() : Read();
  }

 private:
  absl::StatusOr<std::string> Read() {
    if (stream_->Read(&piece_)) return std::move(*piece_.mutable_data());
    ended_ = true;
    if (absl::Status status = FromGrpc(stream_->Finish()); !status.ok()) return status;
    return std::string();
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<farm::v1::ReadResponse>> stream_;
  farm::v1::ReadResponse piece_;
  uint64_t size_bytes_ = 0;
  std::optional<std::string> first_;
  bool ended_ = false;
};

class GrpcDoor : public FarmDoor {
 public:
  // A socket of this machine, which needs no certificate.
  explicit GrpcDoor(const std::string& target) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectMs);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kReconnectMs);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMostReconnectMs);
    arguments.SetMaxReceiveMessageSize(kReplyBytes);
    const auto channel = base::FarmChannel(target, /*trust_folder=*/"", std::move(arguments));
    client_ = ClientService::NewStub(channel);
    blobs_ = BlobService::NewStub(channel);
  }

  absl::StatusOr<farm::v1::ListJobsResponse> ListJobs(const farm::v1::ListJobsRequest& request) override {
    return Ask(&ClientService::Stub::ListJobs, request);
  }
  absl::StatusOr<farm::v1::JobStatus> GetJob(const farm::v1::GetJobRequest& request) override {
    return Ask(&ClientService::Stub::GetJob, request);
  }
  absl::StatusOr<farm::v1::ListOutputsResponse> ListOutputs(const farm::v1::ListOutputsRequest& request) override {
    return Ask(&ClientService::Stub::ListOutputs, request);
  }
  absl::StatusOr<farm::v1::Explanation> ExplainTask(const farm::v1::ExplainTaskRequest& request) override {
    return Ask(&ClientService::Stub::ExplainTask, request);
  }
  absl::StatusOr<farm::v1::ListNodesResponse> ListNodes() override {
    return Ask(&ClientService::Stub::ListNodes, farm::v1::ListNodesRequest());
  }
  absl::StatusOr<farm::v1::Figures> GetFigures() override {
    return Ask(&ClientService::Stub::GetFigures, farm::v1::GetFiguresRequest());
  }
  absl::StatusOr<farm::v1::ReadLogResponse> ReadLog(const farm::v1::ReadLogRequest& request) override {
    return Ask(&ClientService::Stub::ReadLog, request);
  }
  absl::StatusOr<farm::v1::JobStatus> RetryJob(const farm::v1::RetryJobRequest& request) override {
    return Ask(&ClientService::Stub::RetryJob, request);
  }
  absl::StatusOr<farm::v1::JobStatus> ChangeJob(const farm::v1::ChangeJobRequest& request) override {
    return Ask(&ClientService::Stub::ChangeJob, request);
  }
  absl::StatusOr<farm::v1::JobStatus> CancelJob(const farm::v1::CancelJobRequest& request) override {
    return Ask(&ClientService::Stub::CancelJob, request);
  }
  absl::StatusOr<farm::v1::RemoveJobResponse> RemoveJob(const farm::v1::RemoveJobRequest& request) override {
    return Ask(&ClientService::Stub::RemoveJob, request);
  }
  absl::StatusOr<farm::v1::NodeStatus> DrainNode(const farm::v1::DrainNodeRequest& request) override {
    return Ask(&ClientService::Stub::DrainNode, request);
  }
  std::unique_ptr<JobStream> WatchJob(const std::string& job_id) override {
    return std::make_unique<GrpcJobStream>(*client_, job_id);
  }
  absl::StatusOr<std::unique_ptr<BlobStream>> ReadBlob(const std::string& digest) override {
    auto stream = std::make_unique<GrpcBlobStream>(*blobs_, digest);
    if (absl::Status status = stream->Begin(); !status.ok()) return status;
    return stream;
  }

 private:
  template <typename Request, typename Response>
  absl::StatusOr<Response> Ask(grpc::Status (ClientService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                           Response*),
                               const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(Deadline());
    Response response;
    const grpc::Status status = (client_.get()->*method)(&context, request, &response);
    if (!status.ok()) return FromGrpc(status);
    return response;
  }

  std::unique_ptr<ClientService::Stub> client_;
  std::unique_ptr<BlobService::Stub> blobs_;
};

}  // namespace

std::unique_ptr<FarmDoor> OpenWebDoor(const std::string& target) { return std::make_unique<GrpcDoor>(target); }

}  // namespace storyfarm::coordinator
