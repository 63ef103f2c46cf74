// The coordinator as storyctl's commands see it: calls with deadlines, errors in words.
#ifndef STORYFARM_TOOLS_STORYCTL_FARM_CLIENT_H_
#define STORYFARM_TOOLS_STORYCTL_FARM_CLIENT_H_

#include <grpcpp/client_context.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/blob.grpc.pb.h"
#include "farm/v1/client.grpc.pb.h"
#include "farm/v1/problem.pb.h"
#include "farm/v1/trust.grpc.pb.h"
#include "pipeline/base/farm_channel.h"
#include "tools/storyctl/commands.h"

namespace storyfarm::storyctl {

// Long enough for a coordinator that waits for a slow disk, short enough for a person.
inline constexpr int kCallSeconds = 30;

class FarmClient {
 public:
  // Of several coordinators the one that leads is asked (farm_channel.h). Nothing is sent yet.
  explicit FarmClient(const FarmAddress& address);
  ~FarmClient();
  FarmClient(const FarmClient&) = delete;
  FarmClient& operator=(const FarmClient&) = delete;

  // One call. UNAVAILABLE says how to start a coordinator or name another; Problems in the status's details can be
  // taken out with ProblemsOf.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (farm::v1::ClientService::StubInterface::*method)(grpc::ClientContext*,
                                                                                               const Request&,
                                                                                               Response*),
                                const Request& request) {
    return CallOn<Response>(*client_, method, request);
  }
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (farm::v1::TrustService::StubInterface::*method)(grpc::ClientContext*,
                                                                                              const Request&,
                                                                                              Response*),
                                const Request& request) {
    return CallOn<Response>(*trust_, method, request);
  }

  // Follows a job: `on_status` sees each status as it comes and says whether to go on. Ends OK after a final one. A
  // stream that breaks is taken up again, for as long as `patience_s` without news; `on_wait` is told of each break.
  absl::Status Watch(const std::string& job_id, int patience_s,
                     const std::function<bool(const farm::v1::JobStatus&)>& on_status,
                     const std::function<void(const std::string&)>& on_wait);

  // The farm's durable state, as bytes in order. An error of `take` ends it and is returned.
  absl::Status Backup(const std::function<absl::Status(const std::string&)>& take);

  farm::v1::ClientService::StubInterface& client() { return *client_; }
  farm::v1::BlobService::StubInterface& blobs() { return *blobs_; }
  const std::string& target() const { return target_; }

  absl::Status Explain(const grpc::Status& status) const;

 private:
  template <typename Response, typename Stub, typename Method, typename Request>
  absl::StatusOr<Response> CallOn(Stub& stub, Method method, const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(kCallSeconds));
    // While one takes over from another, the call waits for it.
    context.set_wait_for_ready(base::NamesSeveral(target_));
    Response response;
    const grpc::Status status = (stub.*method)(&context, request, &response);
    if (!status.ok()) return Explain(status);
    return response;
  }

  const std::string target_;
  const std::string trust_folder_;
  base::Env* const env_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<farm::v1::ClientService::StubInterface> client_;
  std::unique_ptr<farm::v1::TrustService::StubInterface> trust_;
  std::unique_ptr<farm::v1::BlobService::StubInterface> blobs_;
};

// What the coordinator said of a bad story; empty where the error is another.
std::vector<farm::v1::Problem> ProblemsOf(const absl::Status& status);

// Whether a job in this state changes no more.
bool IsFinal(farm::v1::JobState state);

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_FARM_CLIENT_H_
