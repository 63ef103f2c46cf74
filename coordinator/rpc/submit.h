// A story's bytes on their way to a job: read, checked, put together with a model and expanded to tasks. All that a
// submission can have wrong is found here, before the farm sees anything.
//
//   SubmitRequest ─ ReadSubmission ─> Submission ─ the farm says whether it knows key and model ─ PlanSubmission ─>
//   JobSpec
#ifndef STORYFARM_COORDINATOR_RPC_SUBMIT_H_
#define STORYFARM_COORDINATOR_RPC_SUBMIT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/blob/blob_store.h"
#include "farm/v1/client.pb.h"
#include "farm/v1/job.pb.h"
#include "pipeline/plan/pack.h"

namespace storyfarm::coordinator {

inline constexpr size_t kKeyBytes = 128;  // as SubmitRequest says
inline constexpr size_t kFonts = 64;      // a family with its weights for each of a dozen scripts

// What a request says, as far as it can be read without the farm.
struct Submission {
  farm::v1::Story story;       // with the request's settings put over its own
  std::string model;           // never empty
  std::string request_digest;  // 32 bytes, over everything that makes a difference to the job
  std::vector<farm::v1::Problem> warnings;
  std::vector<farm::v1::FontFile> fonts;
};

// INVALID_ARGUMENT: the key, or a bad story (status.h, BadStory). RESOURCE_EXHAUSTED: too large.
absl::StatusOr<Submission> ReadSubmission(const farm::v1::SubmitRequest& request);

// The job for `model`, which the farm knows, as the packs that the story names; its warnings go to `submission`. INVALID_ARGUMENT: the story does not suit
// the model, or is nothing to render. FAILED_PRECONDITION: a font was not uploaded.
absl::StatusOr<farm::v1::JobSpec> PlanSubmission(const farm::v1::SubmitRequest& request,
                                                 const farm::v1::ModelManifest& model, const plan::NamedPacks& packs,
                                                 BlobStore& blobs, Submission& submission);

// The farm does not know the model that a story asks for: a BadStory that names those it knows.
absl::Status UnknownModel(const std::string& file_name, const std::string& model,
                          const std::vector<std::string>& known);

// "j-" and 10 of [0-9a-z].
std::string JobIdFrom(uint64_t random_bits);

// OK where the blob is there, whole and durable; NOT_FOUND where it is absent. INVALID_ARGUMENT: no digest, or another
// size than that of the blob.
absl::Status CheckBlob(BlobStore& blobs, const farm::v1::BlobRef& blob);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_SUBMIT_H_
