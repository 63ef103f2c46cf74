// A model's manifest on its way to the farm: checked against the blobs, and profiled from them.
#ifndef STORYFARM_COORDINATOR_RPC_MODELS_H_
#define STORYFARM_COORDINATOR_RPC_MODELS_H_

#include "absl/status/statusor.h"
#include "coordinator/blob/blob_store.h"
#include "farm/v1/model.pb.h"

namespace storyfarm::coordinator {

// The manifest with its profile, read from configs and headers where the blobs lie. FAILED_PRECONDITION: files were not
// uploaded (names them). INVALID_ARGUMENT: name, paths or digest are wrong, or the files are no model that this farm
// can run (says which file and why).
absl::StatusOr<farm::v1::ModelManifest> CheckModel(const farm::v1::ModelManifest& manifest, BlobStore& blobs);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_MODELS_H_
