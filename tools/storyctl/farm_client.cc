#include "tools/storyctl/farm_client.h"

#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/farm_channel.h"
#include "pipeline/base/join_client.h"
#include "pipeline/base/places.h"

namespace storyfarm::storyctl {
namespace {

constexpr char kProblemsUrl[] = "storyfarm/farm.v1.Problems";

// A list of 1,000 jobs, or one with the tasks of 20,000 frames.
constexpr int kMaxReplyBytes = 64 << 20;

std::shared_ptr<grpc::Channel> Connect(const std::string& target, const std::string& trust_folder) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReplyBytes);
  // A person waits: try again soon after the coordinator came back.
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 250);
  return base::FarmChannel(target, trust_folder, std::move(arguments));
}

}  // namespace

FarmClient::FarmClient(const FarmAddress& address)
    : target_(address.target),
      trust_folder_(address.trust_folder),
      env_(address.env),
      channel_(Connect(target_, trust_folder_)) {
  client_ = farm::v1::ClientService::NewStub(channel_);
  trust_ = farm::v1::TrustService::NewStub(channel_);
  blobs_ = farm::v1::BlobService::NewStub(channel_);
}

FarmClient::~FarmClient() {
  // Whoever uses the farm every few months stays a member. What goes wrong is tried again next time: it is not what the
  // person asked for.
  const bool connected = channel_->GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY;
  if (connected && base::NeedsCertificate(target_)) {
    base::RenewIfDue(*env_, trust_folder_, channel_).status().IgnoreError();
  }
}

absl::Status FarmClient::Explain(const grpc::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  if (code == absl::StatusCode::kUnavailable && base::IsForeignFarm(status.error_message())) {
    return absl::UnavailableError(base::ForeignFarm(target_));
  }
  if (code == absl::StatusCode::kUnavailable) {
    return absl::UnavailableError(
        absl::StrCat("no coordinator answers at ", target_, " (", status.error_message(),
                     "). Start one with storyfarm-coordinator, or name another with --farm or STORYFARM_FARM"));
  }
  if (code == absl::StatusCode::kDeadlineExceeded) {
    return absl::DeadlineExceededError(
        absl::StrCat("the coordinator at ", target_, " did not answer within ", kCallSeconds, " s; try again"));
  }
  if (code == absl::StatusCode::kUnimplemented) {
    return absl::UnimplementedError(
        absl::StrCat("what answers at ", target_, " is no coordinator of this version: ", status.error_message()));
  }
  // Not what PERMISSION_DENIED says of a file here: the farm forbids it.
  const bool denied = code == absl::StatusCode::kPermissionDenied;
  absl::Status explained(denied ? absl::StatusCode::kFailedPrecondition : code, status.error_message());
  farm::v1::Problems problems;
  if (!status.error_details().empty() && problems.ParseFromString(status.error_details())) {
    explained.SetPayload(kProblemsUrl, absl::Cord(status.error_details()));
  }
  return explained;
}

absl::Status FarmClient::Watch(const std::string& job_id, int patience_s,
                               const std::function<bool(const farm::v1::JobStatus&)>& on_status,
                               const std::function<void(const std::string&)>& on_wait) {
  farm::v1::GetJobRequest request;
  request.set_job_id(job_id);
  auto last_news = std::chrono::steady_clock::now();
  auto pause = std::chrono::milliseconds(250);
  while (true) {
    grpc::ClientContext context;
    auto stream = client_->WatchJob(&context, request);
    farm::v1::JobStatus status;
    while (stream->Read(&status)) {
      last_news = std::chrono::steady_clock::now();
      pause = std::chrono::milliseconds(250);
      if (!on_status(status) || IsFinal(status.state())) {
        context.TryCancel();
        stream->Finish();
        return absl::OkStatus();
      }
    }
    const absl::Status ended = Explain(stream->Finish());
    const bool transient = ended.ok() || absl::IsUnavailable(ended) || absl::IsDeadlineExceeded(ended) ||
                           absl::IsCancelled(ended) || absl::IsAborted(ended);
    if (!transient) return ended;
    if (std::chrono::steady_clock::now() - last_news > std::chrono::seconds(patience_s)) {
      return ended.ok() ? absl::UnavailableError(absl::StrCat("the coordinator at ", target_, " ended the watch"))
                        : ended;
    }
    on_wait("the coordinator is away; waiting for it");
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::milliseconds(2000));
  }
}

absl::Status FarmClient::Backup(const std::function<absl::Status(const std::string&)>& take) {
  grpc::ClientContext context;
  context.set_wait_for_ready(base::NamesSeveral(target_));
  const auto stream = client_->Backup(&context, farm::v1::BackupRequest());
  farm::v1::BackupChunk chunk;
  while (stream->Read(&chunk)) {
    if (absl::Status taken = take(chunk.data()); !taken.ok()) {
      context.TryCancel();
      stream->Finish();
      return taken;
    }
  }
  return Explain(stream->Finish());
}

std::vector<farm::v1::Problem> ProblemsOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kProblemsUrl);
  farm::v1::Problems problems;
  if (!payload.has_value() || !problems.ParseFromString(std::string(*payload))) return {};
  return {problems.problems().begin(), problems.problems().end()};
}

bool IsFinal(farm::v1::JobState state) {
  return state == farm::v1::JOB_DONE || state == farm::v1::JOB_FAILED || state == farm::v1::JOB_CANCELLED;
}

}  // namespace storyfarm::storyctl
