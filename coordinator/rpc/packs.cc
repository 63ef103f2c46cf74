#include "coordinator/rpc/packs.h"

#include <vector>

#include "coordinator/core/farm.h"

namespace storyfarm::coordinator {

bool IsWhole(BlobStore& blobs, const farm::v1::PackManifest& pack) {
  BlobSizes sizes;
  CollectBlobs(pack, &sizes);
  std::vector<farm::v1::BlobRef> refs;
  for (const auto& [digest, size_bytes] : sizes) {
    farm::v1::BlobRef& ref = refs.emplace_back();
    ref.set_digest(digest);
    ref.set_size_bytes(size_bytes);
  }
  const auto missing = blobs.FindMissing(refs);
  return missing.ok() && missing->empty();
}

}  // namespace storyfarm::coordinator
