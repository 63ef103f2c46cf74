// Packs at the farm's door: whether all files of one are there, before a job counts on it. Behind client_service.h.
#ifndef STORYFARM_COORDINATOR_RPC_PACKS_H_
#define STORYFARM_COORDINATOR_RPC_PACKS_H_

#include "coordinator/blob/blob_store.h"
#include "farm/v1/pack.pb.h"

namespace storyfarm::coordinator {

// Whether every blob that it names is there, durable and of the size that it says. What is there is pinned, as
// BlobStore::FindMissing does.
bool IsWhole(BlobStore& blobs, const farm::v1::PackManifest& pack);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_PACKS_H_
