#include "coordinator/blob/blob_store.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {

absl::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(base::Env& env, const std::string& root,
                                                           const BlobStoreOptions& options) {
  base::FileStoreOptions store;
  store.writer = options.writer;
  store.budget_bytes = options.quota_bytes;
  store.evict = false;
  auto files = base::FileStore::Open(env, root, store);
  if (!files.ok()) return files.status();
  return std::unique_ptr<BlobStore>(new BlobStore(*std::move(files), options.condemned));
}

bool BlobStore::HasLocked(const base::Digest& digest) {
  return condemned_.count(digest.Bytes()) == 0 && files_->PinFile(digest).ok();
}

bool BlobStore::Has(const std::string& digest) {
  const auto parsed = base::Digest::FromBytes(digest);
  std::lock_guard<std::mutex> lock(mutex_);
  return parsed.ok() && HasLocked(*parsed);
}

absl::StatusOr<std::vector<farm::v1::BlobRef>> BlobStore::FindMissing(const std::vector<farm::v1::BlobRef>& blobs) {
  std::vector<farm::v1::BlobRef> missing;
  std::set<std::string> seen;
  for (const farm::v1::BlobRef& blob : blobs) {
    const auto digest = base::Digest::FromBytes(blob.digest());
    if (!digest.ok()) return digest.status();
    if (!seen.insert(blob.digest()).second) continue;
    if (!Has(blob.digest())) {
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
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (condemned_.count(blob.digest()) > 0) {
      return absl::AbortedError(
          absl::StrCat("an old file of blob ", digest->Hex(), " is just being removed: send it again in a second"));
    }
  }
  return files_->OpenWriter(*digest, blob.size_bytes(), upload_id);
}

absl::StatusOr<uint64_t> BlobStore::KeptBytes(const farm::v1::BlobRef& blob, const std::string& upload_id) {
  const auto digest = base::Digest::FromBytes(blob.digest());
  if (!digest.ok()) return digest.status();
  return files_->KeptBytes(*digest, upload_id);
}

bool BlobStore::Verify(const std::string& digest) {
  const auto parsed = base::Digest::FromBytes(digest);
  if (!parsed.ok() || !Has(digest)) return false;
  {
    const absl::StatusOr<base::FilePin> pin = Pin(digest);
    if (!pin.ok()) return false;
    const auto hashed = base::HashFile(files_->env(), pin->path());
    if (hashed.ok() && hashed->digest == *parsed) return true;
  }
  std::lock_guard<std::mutex> lock(mutex_);
  return !files_->Remove(*parsed).ok();
}

absl::StatusOr<base::FilePin> BlobStore::Pin(const std::string& digest) {
  const auto parsed = base::Digest::FromBytes(digest);
  if (!parsed.ok()) return parsed.status();
  std::lock_guard<std::mutex> lock(mutex_);
  if (condemned_.count(digest) > 0) {
    return absl::NotFoundError(absl::StrCat("Blob ", parsed->Hex(), " is being removed, as nothing needed it."));
  }
  return files_->PinFile(*parsed);
}

std::vector<std::string> BlobStore::Unused() {
  std::vector<std::string> unused;
  for (const base::StoredFile& file : files_->List()) {
    if (files_->IdleMs(file.digest) >= kPinMs) unused.push_back(file.digest.Bytes());
  }
  return unused;
}

bool BlobStore::Condemn(const std::string& digest) {
  const auto parsed = base::Digest::FromBytes(digest);
  std::lock_guard<std::mutex> lock(mutex_);
  return parsed.ok() && files_->IdleMs(*parsed) >= kPinMs && condemned_.insert(digest).second;
}

absl::Status BlobStore::Unlink(const std::string& digest) {
  const auto parsed = base::Digest::FromBytes(digest);
  if (!parsed.ok()) return parsed.status();
  std::lock_guard<std::mutex> lock(mutex_);
  if (condemned_.count(digest) == 0) {
    return absl::FailedPreconditionError(absl::StrCat("blob ", parsed->Hex(), " is not condemned"));
  }
  if (absl::Status removed = files_->Remove(*parsed); !removed.ok()) return removed;
  condemned_.erase(digest);
  return absl::OkStatus();
}

void BlobStore::Spare(const std::string& digest) {
  std::lock_guard<std::mutex> lock(mutex_);
  condemned_.erase(digest);
}

std::vector<std::string> BlobStore::Condemned() {
  std::lock_guard<std::mutex> lock(mutex_);
  return {condemned_.begin(), condemned_.end()};
}

}  // namespace storyfarm::coordinator
