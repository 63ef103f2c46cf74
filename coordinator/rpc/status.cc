#include "coordinator/rpc/status.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <optional>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "pipeline/story/story.h"

namespace storyfarm::coordinator {
namespace {

constexpr char kProblems[] = "type.googleapis.com/farm.v1.Problems";
constexpr char kRetryMs[] = "storyfarm/retry-ms";
// Details travel in a trailer, and gRPC refuses trailers of more than 8 KiB (as base64) unless told otherwise.
constexpr size_t kDetailsBytes = 5'000;

}  // namespace

absl::Status BadStory(const std::vector<farm::v1::Problem>& problems) {
  farm::v1::Problems message;
  size_t errors = 0;
  std::string first;
  size_t bytes = 0;
  for (const farm::v1::Problem& problem : problems) {
    if (!problem.warning() && errors++ == 0) first = story::FormatProblem(problem);
    bytes += problem.ByteSizeLong() + 4;
    if (bytes <= kDetailsBytes) *message.add_problems() = problem;
  }
  if (message.problems_size() < static_cast<int>(problems.size())) {
    farm::v1::Problem* more = message.add_problems();
    more->set_message(absl::StrCat("and ", problems.size() - static_cast<size_t>(message.problems_size() - 1),
                                   " more problems; repair these first"));
  }
  absl::Status status = absl::InvalidArgumentError(
      errors == 1 ? first : absl::StrCat("The story has ", errors, " problems. The first: ", first));
  status.SetPayload(kProblems, absl::Cord(message.SerializeAsString()));
  return status;
}

absl::Status Busy(const std::string& sentence, int64_t retry_ms) {
  absl::Status status = absl::ResourceExhaustedError(sentence);
  status.SetPayload(kRetryMs, absl::Cord(absl::StrCat(retry_ms)));
  return status;
}

bool IsBusy(const absl::Status& status) { return status.GetPayload(kRetryMs).has_value(); }

grpc::Status ToGrpc(const absl::Status& status, grpc::CallbackServerContext* context) {
  if (status.ok()) return grpc::Status::OK;
  if (const auto retry_ms = status.GetPayload(kRetryMs); retry_ms.has_value() && context != nullptr) {
    context->AddTrailingMetadata("grpc-retry-pushback-ms", std::string(*retry_ms));
  }
  std::string details;
  if (const auto problems = status.GetPayload(kProblems)) details = std::string(*problems);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()), details);
}

}  // namespace storyfarm::coordinator
