#include "pipeline/base/file_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace storyfarm::base {
namespace {

constexpr char kPartialFolder[] = "partial";
// Partial files of Put and AdoptFile: nobody resumes them. Not an upload id's form.
constexpr char kOwnPartialPrefix[] = ".own-";
constexpr size_t kMaxUploadIdBytes = 64;
constexpr size_t kPieceBytes = size_t{1} << 20;
// A use is written to the disk only when the last one there is older: reading a blob stays a read.
constexpr int64_t kUseResolutionMs = 60'000;

}  // namespace

bool IsUploadId(std::string_view text) {
  if (text.empty() || text.size() > kMaxUploadIdBytes) return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

// --- FilePin

FilePin::FilePin(FileStore* store, const Digest& digest, std::string path)
    : store_(store), digest_(digest), path_(std::move(path)) {}
FilePin::FilePin(FilePin&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)), digest_(other.digest_), path_(std::move(other.path_)) {}
FilePin& FilePin::operator=(FilePin&& other) noexcept {
  if (this != &other) {
    if (store_ != nullptr) store_->Unpin(digest_);
    store_ = std::exchange(other.store_, nullptr);
    digest_ = other.digest_;
    path_ = std::move(other.path_);
  }
  return *this;
}
FilePin::~FilePin() {
  if (store_ != nullptr) store_->Unpin(digest_);
}

// --- StoreWriter

StoreWriter::StoreWriter(FileStore& store, const Digest& digest, uint64_t size_bytes, std::string partial_path)
    : store_(store), digest_(digest), size_bytes_(size_bytes), partial_path_(std::move(partial_path)) {}

StoreWriter::~StoreWriter() { End(); }

void StoreWriter::End() {
  file_.reset();
  if (!ended_) store_.EndUpload(partial_path_);
  ended_ = true;
}

absl::Status StoreWriter::Append(std::string_view bytes) {
  if (file_ == nullptr) return absl::FailedPreconditionError("This upload has ended or failed; open it again.");
  if (bytes.size() > size_bytes_ - offset_bytes_) {
    return absl::OutOfRangeError(
        absl::StrCat("Blob ", digest_.ShortHex(), " was announced with ", size_bytes_, " bytes, and more came."));
  }
  absl::Status appended = file_->Append(bytes);
  if (!appended.ok()) {
    // The file may hold a part of these bytes, which the hash does not: the next writer hashes what is there.
    file_.reset();
    return appended;
  }
  hasher_.Update(bytes);
  offset_bytes_ += bytes.size();
  store_.CountWritten(partial_path_, bytes.size());
  return absl::OkStatus();
}

absl::Status StoreWriter::Commit() {
  if (file_ == nullptr) return absl::FailedPreconditionError("This upload has ended or failed; open it again.");
  if (offset_bytes_ < size_bytes_) {
    return absl::FailedPreconditionError(absl::StrCat("Blob ", digest_.ShortHex(), " is not complete: ", offset_bytes_,
                                                      " of ", size_bytes_, " bytes came."));
  }
  const Digest found = hasher_.Finish();
  if (found != digest_) {
    absl::Status removed = Discard();
    return absl::DataLossError(absl::StrCat("The bytes sent as blob ", digest_.Hex(), " hash to ", found.Hex(),
                                            ". They were damaged or changed on the way; nothing was kept.",
                                            removed.ok() ? "" : absl::StrCat(" ", removed.message())));
  }
  absl::Status synced = file_->Sync();
  if (synced.ok()) synced = file_->Close();
  if (!synced.ok()) {
    // After a failed sync the kernel may have dropped the pages and call the next sync a success: start over.
    Discard().IgnoreError();
    return synced;
  }
  absl::Status published = store_.Publish(partial_path_, digest_, size_bytes_);
  End();
  return published;
}

absl::Status StoreWriter::Discard() {
  file_.reset();
  // Still this writer's own: the next one must not lose its file.
  absl::Status removed = ended_ ? absl::OkStatus() : store_.env_.Remove(partial_path_);
  End();
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

// --- FileStore

FileStore::FileStore(Env& env, std::string root, FileStoreOptions options)
    : env_(env), root_(std::move(root)), options_(options) {}
FileStore::~FileStore() = default;

absl::StatusOr<std::unique_ptr<FileStore>> FileStore::Open(Env& env, std::string root, FileStoreOptions options) {
  std::unique_ptr<FileStore> store(new FileStore(env, std::move(root), options));
  absl::Status loaded = store->Load();
  if (!loaded.ok()) return loaded;
  return store;
}

absl::Status FileStore::Load() {
  absl::Status status = env_.CreateFolders(JoinPath(root_, kPartialFolder));
  if (status.ok()) status = env_.SyncFolder(root_);
  if (status.ok()) status = RemoveStalePartials();
  if (!status.ok()) return status;
  absl::StatusOr<std::vector<std::string>> names = env_.List(root_);
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    if (name.size() != 2) continue;
    status = LoadFolder(name);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status FileStore::LoadFolder(const std::string& name) {
  const std::string folder = JoinPath(root_, name);
  // A file that was renamed here just before the last process died counts as durable from now on.
  if (absl::Status synced = env_.SyncFolder(folder); !synced.ok()) return synced;
  absl::StatusOr<std::vector<std::string>> files = env_.List(folder);
  if (!files.ok()) return files.status();
  std::lock_guard<std::mutex> lock(mutex_);
  for (const std::string& file : *files) {
    absl::StatusOr<Digest> digest = Digest::FromHex(file);
    if (!digest.ok() || digest->Hex() != file || file.substr(0, 2) != name) continue;  // not ours: left alone
    absl::StatusOr<FileInfo> info = env_.Stat(JoinPath(folder, file));
    if (!info.ok()) return info.status();
    if (info->is_folder) continue;
    entries_[*digest] = {info->size_bytes, info->modified_unix_ms, info->modified_unix_ms, env_.MonotonicMs(), 0};
    used_bytes_ += info->size_bytes;
  }
  return absl::OkStatus();
}

absl::Status FileStore::RemoveStalePartials() {
  const std::string folder = JoinPath(root_, kPartialFolder);
  absl::StatusOr<std::vector<std::string>> names = env_.List(folder);
  if (!names.ok()) return names.status();
  const int64_t now = env_.NowUnixMs();
  for (const std::string& name : *names) {
    const std::string path = JoinPath(folder, name);
    absl::StatusOr<FileInfo> info = env_.Stat(path);
    if (!info.ok()) return info.status();
    const bool own = name.compare(0, sizeof kOwnPartialPrefix - 1, kOwnPartialPrefix) == 0;
    if (!own && now - info->modified_unix_ms < options_.partial_lifetime_ms) continue;
    if (absl::Status removed = env_.Remove(path); !removed.ok()) return removed;
  }
  return absl::OkStatus();
}

std::string FileStore::FolderFor(const Digest& digest) const { return JoinPath(root_, digest.Hex().substr(0, 2)); }
std::string FileStore::PathFor(const Digest& digest) const { return JoinPath(FolderFor(digest), digest.Hex()); }
std::string FileStore::PartialPathFor(const Digest& digest, const std::string& upload_id) const {
  return JoinPath(JoinPath(root_, kPartialFolder),
                  absl::StrCat(digest.Hex(), ".", upload_id, options_.writer.empty() ? "" : ".", options_.writer));
}

FileStore::Entry* FileStore::Find(const Digest& digest) {
  const auto found = entries_.find(digest);
  if (found == entries_.end()) return nullptr;
  absl::StatusOr<FileInfo> info = env_.Stat(PathFor(digest));
  if (info.ok() && !info->is_folder && info->size_bytes == found->second.size_bytes) return &found->second;
  // Pins of a file that is gone still count down in Unpin, so their entry stays until then.
  if (found->second.pins == 0) Forget(digest);
  return nullptr;
}

void FileStore::Touch(const Digest& digest, Entry& entry) {
  entry.used_monotonic_ms = env_.MonotonicMs();
  entry.last_used_unix_ms = std::max(entry.last_used_unix_ms, env_.NowUnixMs());
  if (entry.last_used_unix_ms - entry.stored_use_unix_ms < kUseResolutionMs) return;
  // The time only orders evictions after a restart: a disk that refuses it does not make the file unusable.
  if (env_.SetModified(PathFor(digest), entry.last_used_unix_ms).ok()) {
    entry.stored_use_unix_ms = entry.last_used_unix_ms;
  }
}

void FileStore::Forget(const Digest& digest) {
  const auto found = entries_.find(digest);
  if (found == entries_.end()) return;
  used_bytes_ -= found->second.size_bytes;
  entries_.erase(found);
}

bool FileStore::Removable(const Digest& digest, const Entry& entry) const {
  return entry.pins == 0 && publishing_.find(digest) == publishing_.end();
}

bool FileStore::Has(const Digest& digest) {
  std::lock_guard<std::mutex> lock(mutex_);
  return Find(digest) != nullptr;
}

absl::StatusOr<std::string> FileStore::Path(const Digest& digest) {
  std::lock_guard<std::mutex> lock(mutex_);
  Entry* entry = Find(digest);
  if (entry == nullptr) return absl::NotFoundError(absl::StrCat("Blob ", digest.Hex(), " is not in ", root_, "."));
  Touch(digest, *entry);
  return PathFor(digest);
}

absl::StatusOr<uint64_t> FileStore::SizeBytes(const Digest& digest) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Entry* entry = Find(digest);
  if (entry == nullptr) return absl::NotFoundError(absl::StrCat("Blob ", digest.Hex(), " is not in ", root_, "."));
  return entry->size_bytes;
}

absl::StatusOr<FilePin> FileStore::PinFile(const Digest& digest) {
  std::lock_guard<std::mutex> lock(mutex_);
  Entry* entry = Find(digest);
  if (entry == nullptr) return absl::NotFoundError(absl::StrCat("Blob ", digest.Hex(), " is not in ", root_, "."));
  Touch(digest, *entry);
  ++entry->pins;
  return FilePin(this, digest, PathFor(digest));
}

void FileStore::Unpin(const Digest& digest) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find(digest);
  if (found == entries_.end() || found->second.pins == 0) return;
  --found->second.pins;
  found->second.used_monotonic_ms = env_.MonotonicMs();
}

absl::Status FileStore::MakeRoom(uint64_t size_bytes, uint64_t kept_bytes) {
  uint64_t under_way = 0;                      // all bytes of uploads that are open
  uint64_t to_come = size_bytes - kept_bytes;  // not on the disk yet
  for (const auto& [path, upload] : uploads_) {
    under_way += upload.size_bytes;
    to_come += upload.size_bytes - upload.written_bytes;
  }
  absl::StatusOr<uint64_t> free = env_.FreeBytes(root_);
  if (!free.ok()) return free.status();
  const bool limited = options_.budget_bytes > 0;
  if (limited && size_bytes > options_.budget_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("A blob of ", size_bytes, " bytes does not fit into ", root_,
                                                     ", which may hold ", options_.budget_bytes,
                                                     " bytes in all. Raise that limit."));
  }
  uint64_t free_bytes = *free;
  const auto over_budget = [&] { return limited && used_bytes_ + under_way + size_bytes > options_.budget_bytes; };
  const auto disk_short = [&] { return free_bytes < to_come + options_.keep_free_bytes; };
  if (!over_budget() && !disk_short()) return absl::OkStatus();
  if (limited && options_.evict) {
    std::vector<std::pair<int64_t, Digest>> oldest_first;
    for (const auto& [digest, entry] : entries_) {
      if (Removable(digest, entry)) oldest_first.emplace_back(entry.last_used_unix_ms, digest);
    }
    std::sort(oldest_first.begin(), oldest_first.end());
    for (const auto& [last_used, digest] : oldest_first) {
      if (!over_budget() && !disk_short()) break;
      const uint64_t freed = entries_[digest].size_bytes;
      absl::Status removed = env_.Remove(PathFor(digest));
      if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
      Forget(digest);
      if (removed.ok()) free_bytes += freed;
    }
  }
  if (over_budget()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        root_, " may hold ", options_.budget_bytes, " bytes, and what is in use leaves no room for a blob of ",
        size_bytes, " bytes. Raise that limit, or ",
        options_.evict ? "wait until running work has ended." : "remove what is not needed any more."));
  }
  if (disk_short()) {
    return absl::ResourceExhaustedError(absl::StrCat("The disk of ", root_, " is full: ", free_bytes,
                                                     " bytes are free, ", to_come, " are to be written and ",
                                                     options_.keep_free_bytes, " must stay free. Free some space."));
  }
  return absl::OkStatus();
}

absl::Status FileStore::BeginUpload(const std::string& partial_path, uint64_t size_bytes, uint64_t kept_bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (uploads_.find(partial_path) != uploads_.end()) {
    return absl::AbortedError(absl::StrCat("The upload ", FileNameOf(partial_path), " is open already; try again."));
  }
  if (absl::Status room = MakeRoom(size_bytes, kept_bytes); !room.ok()) return room;
  uploads_[partial_path] = {size_bytes, kept_bytes};
  return absl::OkStatus();
}

void FileStore::CountWritten(const std::string& partial_path, uint64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  uploads_[partial_path].written_bytes += bytes;
}

void FileStore::EndUpload(const std::string& partial_path) {
  std::lock_guard<std::mutex> lock(mutex_);
  uploads_.erase(partial_path);
}

std::string FileStore::OwnPartialPath() {
  std::lock_guard<std::mutex> lock(mutex_);
  return JoinPath(JoinPath(root_, kPartialFolder), absl::StrCat(kOwnPartialPrefix, own_partials_++, options_.writer));
}

absl::StatusOr<uint64_t> FileStore::KeptBytes(const Digest& digest, const std::string& upload_id) {
  if (!IsUploadId(upload_id)) return absl::InvalidArgumentError("An upload id has 1 to 64 characters of [a-z0-9-].");
  absl::StatusOr<FileInfo> info = env_.Stat(PartialPathFor(digest, upload_id));
  if (absl::IsNotFound(info.status())) return 0;
  if (!info.ok()) return info.status();
  return info->size_bytes;
}

absl::StatusOr<std::unique_ptr<StoreWriter>> FileStore::OpenWriter(const Digest& digest, uint64_t size_bytes,
                                                                   const std::string& upload_id) {
  absl::StatusOr<uint64_t> kept = KeptBytes(digest, upload_id);
  if (!kept.ok()) return kept.status();
  const std::string path = PartialPathFor(digest, upload_id);
  // More than the blob can have: not its bytes, start over.
  const WriteMode mode = *kept > size_bytes ? WriteMode::kTruncate : WriteMode::kAppend;
  if (mode == WriteMode::kTruncate) *kept = 0;
  if (absl::Status begun = BeginUpload(path, size_bytes, *kept); !begun.ok()) return begun;
  std::unique_ptr<StoreWriter> writer(new StoreWriter(*this, digest, size_bytes, path));
  if (*kept > 0) {
    absl::StatusOr<std::unique_ptr<ReadableFile>> old = env_.OpenForReading(path);
    if (!old.ok()) return old.status();
    std::vector<char> piece(kPieceBytes);
    while (writer->offset_bytes_ < *kept) {
      const size_t want = std::min<uint64_t>(piece.size(), *kept - writer->offset_bytes_);
      absl::StatusOr<size_t> got = (*old)->ReadAt(writer->offset_bytes_, piece.data(), want);
      if (!got.ok()) return got.status();
      if (*got == 0) return absl::AbortedError(absl::StrCat("The partial file ", path, " shrank; try again."));
      writer->hasher_.Update({piece.data(), *got});
      writer->offset_bytes_ += *got;
    }
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> file = env_.OpenForWriting(path, mode);
  if (!file.ok()) return file.status();
  writer->file_ = *std::move(file);
  return writer;
}

absl::StatusOr<StoredFile> FileStore::Put(std::string_view bytes) {
  const Digest digest = Digest::Of(bytes);
  if (Path(digest).ok()) return StoredFile{digest, bytes.size(), env_.NowUnixMs()};
  const std::string partial = OwnPartialPath();
  if (absl::Status begun = BeginUpload(partial, bytes.size(), 0); !begun.ok()) return begun;
  absl::Status status = [&] {
    absl::StatusOr<std::unique_ptr<WritableFile>> file = env_.OpenForWriting(partial, WriteMode::kTruncate);
    if (!file.ok()) return file.status();
    if (absl::Status s = (*file)->Append(bytes); !s.ok()) return s;
    if (absl::Status s = (*file)->Sync(); !s.ok()) return s;
    if (absl::Status s = (*file)->Close(); !s.ok()) return s;
    return Publish(partial, digest, bytes.size());
  }();
  if (!status.ok()) env_.Remove(partial).IgnoreError();  // the first error is the one to report
  EndUpload(partial);
  if (!status.ok()) return status;
  return StoredFile{digest, bytes.size(), env_.NowUnixMs()};
}

absl::StatusOr<StoredFile> FileStore::AdoptFile(const std::string& path) {
  absl::StatusOr<FileDigest> named = HashFile(env_, path);
  if (!named.ok()) return named.status();
  absl::Status status = [&] {
    absl::StatusOr<std::unique_ptr<WritableFile>> file = env_.OpenForWriting(path, WriteMode::kAppend);
    if (!file.ok()) return file.status();
    if (absl::Status s = (*file)->Sync(); !s.ok()) return s;
    return (*file)->Close();
  }();
  if (!status.ok()) return status;
  // Moving takes no room on the disk; whether it does is known only when it was tried, so room is made in any case.
  const std::string partial = OwnPartialPath();
  if (absl::Status begun = BeginUpload(partial, named->size_bytes, 0); !begun.ok()) return begun;
  status = Publish(path, named->digest, named->size_bytes);
  if (absl::IsUnimplemented(status)) {
    status = env_.CopyFile(path, partial);
    if (status.ok()) status = Publish(partial, named->digest, named->size_bytes);
    if (status.ok()) status = env_.Remove(path);
    if (!status.ok()) env_.Remove(partial).IgnoreError();
  }
  EndUpload(partial);
  if (!status.ok()) return status;
  return StoredFile{named->digest, named->size_bytes, env_.NowUnixMs()};
}

absl::Status FileStore::Publish(const std::string& from, const Digest& digest, uint64_t size_bytes) {
  const std::string folder = FolderFor(digest);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    // Under the lock, so that nobody finds a folder whose own name is not durable yet.
    if (!env_.Exists(folder)) {
      if (absl::Status s = env_.CreateFolders(folder); !s.ok()) return s;
      if (absl::Status s = env_.SyncFolder(root_); !s.ok()) {
        env_.Remove(folder).IgnoreError();  // the next publication makes and syncs it again
        return s;
      }
    }
    ++publishing_[digest];
  }
  const int64_t now = env_.NowUnixMs();
  // As in Touch: the time only orders evictions after a restart.
  const bool time_stored = env_.SetModified(from, now).ok();
  absl::Status status = env_.Rename(from, PathFor(digest));
  if (status.ok()) status = env_.SyncFolder(folder);
  std::lock_guard<std::mutex> lock(mutex_);
  if (--publishing_[digest] == 0) publishing_.erase(digest);
  if (!status.ok()) return status;
  Entry& entry = entries_[digest];
  used_bytes_ += size_bytes - entry.size_bytes;
  entry.size_bytes = size_bytes;
  entry.last_used_unix_ms = now;
  entry.stored_use_unix_ms = time_stored ? now : 0;
  entry.used_monotonic_ms = env_.MonotonicMs();
  return absl::OkStatus();
}

absl::Status FileStore::Remove(const Digest& digest) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find(digest);
  if (found == entries_.end()) return absl::OkStatus();
  if (!Removable(digest, found->second)) {
    return absl::FailedPreconditionError(absl::StrCat("Blob ", digest.Hex(), " is in use."));
  }
  absl::Status removed = env_.Remove(PathFor(digest));
  if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  Forget(digest);
  return absl::OkStatus();
}

bool FileStore::KeepIfWhole(const Digest& digest) {
  absl::StatusOr<FilePin> pin = PinFile(digest);
  if (!pin.ok()) return false;
  const absl::StatusOr<FileDigest> hashed = HashFile(env_, pin->path());
  if (hashed.ok() && hashed->digest == digest) return true;
  std::lock_guard<std::mutex> lock(mutex_);
  // Its entry goes with its last pin (Find). A disk that does not let it go is met at the next try.
  env_.Remove(PathFor(digest)).IgnoreError();
  return false;
}

int64_t FileStore::IdleMs(const Digest& digest) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find(digest);
  if (found == entries_.end() || !Removable(digest, found->second)) return 0;
  return env_.MonotonicMs() - found->second.used_monotonic_ms;
}

std::vector<StoredFile> FileStore::List() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<StoredFile> files;
  files.reserve(entries_.size());
  for (const auto& [digest, entry] : entries_) files.push_back({digest, entry.size_bytes, entry.last_used_unix_ms});
  return files;
}

uint64_t FileStore::used_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return used_bytes_;
}

}  // namespace storyfarm::base
