// Files named by their SHA-256 in a folder: the coordinator's blobs and a worker's blob cache.
//
//   root/ab/abcdef...              a finished file: complete, verified, durable
//   root/partial/abcdef....UPLOAD  an upload under way, or one to be resumed
//
// A file appears under its digest in one step, by rename, after its bytes were hashed and synced; so whatever is there
// is whole. Each upload has a partial file of its own, so two writers of one digest don't meet; the second commit
// replaces equal bytes by equal bytes.
#ifndef STORYFARM_PIPELINE_BASE_FILE_STORE_H_
#define STORYFARM_PIPELINE_BASE_FILE_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"

namespace storyfarm::base {

struct FileStoreOptions {
  // Files in use least recently are removed so that the finished files stay within this. 0: no limit, nothing is
  // removed.
  uint64_t budget_bytes = 0;
  // false: nothing is removed; what does not fit the budget is refused.
  bool evict = true;
  // Writes are refused, after eviction, where they would leave less than this free on the disk: room for logs and a
  // Redis rewrite on the same disk.
  uint64_t keep_free_bytes = uint64_t{256} << 20;
  // Partial files untouched for longer are removed when the store is opened: their writer is gone.
  int64_t partial_lifetime_ms = int64_t{48} * 3600 * 1000;
  // Where several processes write below one root: a name of this one's own, part of its partial files' names. They then
  // never meet in one, and don't resume each other's.
  std::string writer;
};

struct StoredFile {
  Digest digest;
  uint64_t size_bytes = 0;
  int64_t last_used_unix_ms = 0;
};

class FileStore;

// Keeps one file from being evicted or removed while it lives. Must not outlive the store.
class FilePin {
 public:
  FilePin() = default;
  FilePin(FilePin&& other) noexcept;
  FilePin& operator=(FilePin&& other) noexcept;
  ~FilePin();
  const std::string& path() const { return path_; }

 private:
  friend class FileStore;
  FilePin(FileStore* store, const Digest& digest, std::string path);
  FileStore* store_ = nullptr;
  Digest digest_;
  std::string path_;
};

// One upload of one file. Not thread-safe. Destruction without Commit keeps the partial file for a later resume.
class StoreWriter {
 public:
  ~StoreWriter();
  // Bytes kept so far; the next Append goes here.
  uint64_t offset_bytes() const { return offset_bytes_; }
  // RESOURCE_EXHAUSTED: disk full; what was written is kept, for another writer to resume. OUT_OF_RANGE: more than the
  // announced size, nothing was written. After any other failure every call fails.
  absl::Status Append(std::string_view bytes);
  // Verifies size and digest, syncs, renames, syncs the folder: on OK the file is durable and in the store.
  // DATA_LOSS: the bytes are not what the digest names; the partial file is removed. FAILED_PRECONDITION: too few bytes
  // yet, which are kept. Call once.
  absl::Status Commit();
  // Removes the partial file.
  absl::Status Discard();

 private:
  friend class FileStore;
  StoreWriter(FileStore& store, const Digest& digest, uint64_t size_bytes, std::string partial_path);
  // The upload is free for another writer.
  void End();
  FileStore& store_;
  Digest digest_;
  uint64_t size_bytes_;
  uint64_t offset_bytes_ = 0;
  std::string partial_path_;
  std::unique_ptr<WritableFile> file_;
  Sha256 hasher_;
  bool ended_ = false;
};

// Thread-safe. One process owns a root at a time, unless each has a name (FileStoreOptions::writer).
class FileStore {
 public:
  // Creates the folder where it is missing, and reads what is in it.
  static absl::StatusOr<std::unique_ptr<FileStore>> Open(Env& env, std::string root, FileStoreOptions options = {});
  ~FileStore();

  // Whether it is here and durable. Looks at the disk, too: a file that was taken away from outside is absent.
  bool Has(const Digest& digest);
  // NOT_FOUND names the digest. Counts as use. The file stays only while it is pinned or nothing evicts: prefer
  // PinFile.
  absl::StatusOr<std::string> Path(const Digest& digest);
  absl::StatusOr<uint64_t> SizeBytes(const Digest& digest);
  // Counts as use. NOT_FOUND where it is absent.
  absl::StatusOr<FilePin> PinFile(const Digest& digest);

  // Starts or resumes an upload: what the partial file of this digest and upload id keeps is hashed again, and the
  // writer stands at its end. `upload_id` is 1 to 64 of [a-z0-9-]; INVALID_ARGUMENT otherwise. ABORTED where another
  // writer of this process has the same upload open. Evicts to make room; RESOURCE_EXHAUSTED where the file can't fit.
  absl::StatusOr<std::unique_ptr<StoreWriter>> OpenWriter(const Digest& digest, uint64_t size_bytes,
                                                          const std::string& upload_id);
  // What OpenWriter would find kept; 0 where there is nothing.
  absl::StatusOr<uint64_t> KeptBytes(const Digest& digest, const std::string& upload_id);

  // Small bytes in one call: durable on OK.
  absl::StatusOr<StoredFile> Put(std::string_view bytes);
  // Takes a finished file into the store, durable on OK: moved where it lies on the same disk, else copied and removed.
  // `path` is gone afterwards.
  absl::StatusOr<StoredFile> AdoptFile(const std::string& path);

  // FAILED_PRECONDITION where it is pinned, OK where it is absent.
  absl::Status Remove(const Digest& digest);
  // Reads the file once, and takes it away, pinned or not, where its bytes are not what the digest names: whoever reads
  // it just now goes on with what is open, and the next one finds it absent. True where it is whole.
  bool KeepIfWhole(const Digest& digest);
  // For how long nobody used a file, or for how long this store has been open; by a clock that nobody sets. 0 where it
  // is pinned or absent.
  int64_t IdleMs(const Digest& digest) const;
  // Sorted by digest.
  std::vector<StoredFile> List() const;
  uint64_t used_bytes() const;
  const std::string& root() const { return root_; }
  Env& env() const { return env_; }

 private:
  friend class FilePin;
  friend class StoreWriter;
  struct Entry {
    uint64_t size_bytes = 0;
    int64_t last_used_unix_ms = 0;
    int64_t stored_use_unix_ms = 0;  // what the file's modification time says
    int64_t used_monotonic_ms = 0;
    uint32_t pins = 0;
  };
  struct Upload {
    uint64_t size_bytes = 0;
    uint64_t written_bytes = 0;
  };

  FileStore(Env& env, std::string root, FileStoreOptions options);
  absl::Status Load();
  absl::Status LoadFolder(const std::string& name);
  absl::Status RemoveStalePartials();
  std::string FolderFor(const Digest& digest) const;
  std::string PathFor(const Digest& digest) const;
  std::string PartialPathFor(const Digest& digest, const std::string& upload_id) const;
  // The next ones are called with mutex_ held.

  // Null where the file is absent, which it also is where somebody took it from the disk.
  Entry* Find(const Digest& digest);
  void Touch(const Digest& digest, Entry& entry);
  void Forget(const Digest& digest);
  bool Removable(const Digest& digest, const Entry& entry) const;
  // Evicts until an upload of `size_bytes`, of which `kept_bytes` are on the disk already, fits beside those under way.
  absl::Status MakeRoom(uint64_t size_bytes, uint64_t kept_bytes);
  // And these without it.

  // Registers an upload after making room for it.
  absl::Status BeginUpload(const std::string& partial_path, uint64_t size_bytes, uint64_t kept_bytes);
  void CountWritten(const std::string& partial_path, uint64_t bytes);
  void EndUpload(const std::string& partial_path);
  // A name in partial/ that no other writer has; removed by the next Open where this process dies.
  std::string OwnPartialPath();
  // Renames a synced file to its digest's name, makes that durable and enters it.
  absl::Status Publish(const std::string& from, const Digest& digest, uint64_t size_bytes);
  void Unpin(const Digest& digest);

  Env& env_;
  const std::string root_;
  const FileStoreOptions options_;
  mutable std::mutex mutex_;         // guards everything below
  std::map<Digest, Entry> entries_;  // durable files
  uint64_t used_bytes_ = 0;
  std::map<std::string, Upload> uploads_;  // by partial path
  std::map<Digest, int> publishing_;       // between rename and durability
  uint64_t own_partials_ = 0;
};

// Whether it is 1 to 64 of [a-z0-9-].
bool IsUploadId(std::string_view text);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_FILE_STORE_H_
