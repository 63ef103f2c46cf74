// What a group needs before it can run: every blob that its work reads in the cache, and its model as a folder.
#ifndef STORYFARM_WORKER_AGENT_INPUTS_H_
#define STORYFARM_WORKER_AGENT_INPUTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/engine.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/work.pb.h"
#include "pipeline/base/file_store.h"
#include "pipeline/base/transfer.h"
#include "pipeline/plan/model_use.h"
#include "worker/agent/blob_sources.h"

namespace storyfarm::worker {

struct GroupInputs {
  std::vector<base::FilePin> pins;
  std::vector<farm::v1::LocalFile> files;  // all but the model's
  std::string model_folder;                // empty for pages
  FetchedBytes fetched;
};

// Fetches what the cache lacks and pins everything. Blocks. Stays at it while the coordinator is away for a few
// minutes; ends early with CANCELLED through `cancel`.
absl::StatusOr<GroupInputs> FetchInputs(BlobSources& sources, base::FileStore& cache, const std::string& models_folder,
                                        const farm::v1::Work& work, const std::vector<farm::v1::Peer>& peers,
                                        base::TransferCancel* cancel);

// A folder laid out as the manifest's paths say, of links into the cache, under the manifest's digest in
// `models_folder`: the same model always lies in the same folder, so that a warm engine knows it again. Of files that the
// use does not need nothing is there, or what an earlier one brought.
// INVALID_ARGUMENT: a path that would leave the folder. The files themselves need to be in the cache, pinned, while the
// folder is used.
absl::StatusOr<std::string> AssembleModel(base::FileStore& cache, const std::string& models_folder,
                                          const farm::v1::ModelManifest& model, plan::ModelUse use);

// The typed failure for a status: DISK_FULL where the disk or the cache's budget is full, else `otherwise`. Names the
// blob that FetchInputs did not find at the coordinator, or not whole.
farm::v1::Failure FailureOf(const absl::Status& status, farm::v1::FailureKind otherwise);

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_INPUTS_H_
