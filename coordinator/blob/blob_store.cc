#include "coordinator/blob/blob_store.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {

absl::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(base::Env& env, const std::string& root,
                                                           const BlobStoreOptions& options) {
  base::FileStoreOptions store;
  store.writer = options.writer;
  auto files = base::FileStore::Open(env, root, store);
  if (!files.ok()) return files.status();
  return std::unique_ptr<BlobStore>(new BlobStore(*std::move(files)));
}

bool BlobStore::Has(const std::string& digest) {
  const auto parsed = base::Digest::FromBytes(digest);
  return parsed.ok() && files_->Has(*parsed);
}

absl::StatusOr<std::vector<farm::v1::BlobRef>> BlobStore::FindMissing(const std::vector<farm::v1::BlobRef>& blobs) {
  std::vector<farm::v1::BlobRef> missing;
  std::set<std::string> seen;
  for (const farm::v1::BlobRef& blob : blobs) {
    const auto digest = base::Digest::FromBytes(blob.digest());
    if (!digest.ok()) return digest.status();
    if (!seen.insert(blob.digest()).second) continue;
    if (!files_->Has(*digest)) {
      missing.push_back(blob);
      continue;
    }
    const auto size_bytes = files_->SizeBytes(*digest);
    if (size_bytes.ok() && *size_bytes != blob.size_bytes()) {
      return absl::InvalidArgumentError(absl::StrCat("blob ", digest->Hex(), " has ", *size_bytes,
                                                     " bytes here, and the request says ", blob.size_bytes()));
    }
  }
  return missing;
}

absl::StatusOr<std::unique_ptr<base::StoreWriter>> BlobStore::OpenWriter(const farm::v1::BlobRef& blob,
                                                                         const std::string& upload_id) {
  const auto digest = base::Digest::FromBytes(blob.digest());
  if (!digest.ok()) return digest.status();
  if (blob.size_bytes() > kMaxBlobBytes) {
    return absl::InvalidArgumentError(absl::StrCat("blob ", digest->Hex(), " has ", blob.size_bytes(),
                                                   " bytes; the farm takes files of up to ", kMaxBlobBytes));
  }
  return files_->OpenWriter(*digest, blob.size_bytes(), upload_id);
}

absl::StatusOr<uint64_t> BlobStore::KeptBytes(const farm::v1::BlobRef& blob, const std::string& upload_id) {
  const auto digest = base::Digest::FromBytes(blob.digest());
  if (!digest.ok()) return digest.status();
  return files_->KeptBytes(*digest, upload_id);
}

absl::StatusOr<base::FilePin> BlobStore::Pin(const std::string& digest) {
  const auto parsed = base::Digest::FromBytes(digest);
  if (!parsed.ok()) return parsed.status();
  return files_->PinFile(*parsed);
}

}  // namespace storyfarm::coordinator
