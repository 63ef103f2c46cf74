// pipeline/base: the ground that every other part stands on.
//
// Everything that a part needs of the outside world passes through here, so that a test can break it: files, folders,
// clocks and random bytes (Env), bytes named by their SHA-256 (Digest, FileStore, MappedFile), messages between two
// processes (framing), the processes themselves (Subprocess), and how they are asked to stop (StopWatch). Blob transfer
// over gRPC is a target of its own.
//
//   disk <-- Env <-- FileStore (content-addressed) <-- transfer (upload, download) <--> BlobService
//                      ^ Digest, Sha256
//   parent <-- framing over a SocketPair --> child (Subprocess)
//
// Errors are absl::Status whose message is a sentence: what failed, the path, what to do. Codes: NOT_FOUND (missing),
// ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED (disk or quota full, too many open files), INVALID_ARGUMENT
// (a path that can't be one), DATA_LOSS (the disk failed), FAILED_PRECONDITION (a folder where a file should be, and
// the reverse), else INTERNAL.
#ifndef STORYFARM_PIPELINE_BASE_ENV_H_
#define STORYFARM_PIPELINE_BASE_ENV_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace storyfarm::base {

// Refuses to read a small file (config, story, key) into memory where it is larger: no such file comes near.
inline constexpr uint64_t kMaxWholeFileBytes = uint64_t{256} << 20;

// A file being written from its start or its end on. Not thread-safe. Destruction closes without syncing.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // Writes all of `bytes` or fails; after a failure a part of them may be in the file.
  virtual absl::Status Append(std::string_view bytes) = 0;
  // The same at an offset, behind the end or before it. Any thread, several at a time; of a file that is not appended to.
  virtual absl::Status WriteAt(uint64_t offset_bytes, std::string_view bytes) = 0;
  // Returns when everything appended is on the disk itself (fsync, F_FULLFSYNC on macOS).
  virtual absl::Status Sync() = 0;
  // The last write errors of some file systems appear only here. Once.
  virtual absl::Status Close() = 0;
};

// A file being read at any offset. Thread-safe.
class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  // Reads up to `size` bytes; fewer only at the end of the file.
  virtual absl::StatusOr<size_t> ReadAt(uint64_t offset_bytes, char* buffer, size_t size) const = 0;
  virtual uint64_t SizeBytes() const = 0;  // when it was opened
};

// Held until destruction; the kernel releases it when the process dies, and children don't inherit it.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

enum class WriteMode {
  kTruncate,  // creates the file or empties it
  kAppend,    // creates the file or goes on at its end
  kSecret,    // creates the file, readable by its owner alone (0600); fails where there is one
};

struct FileInfo {
  uint64_t size_bytes = 0;
  int64_t modified_unix_ms = 0;
  bool is_folder = false;
};

// The door to files, clocks and entropy. Thread-safe.
class Env {
 public:
  virtual ~Env() = default;
  // The machine's own. It lives as long as the process and holds no state.
  static Env& Real();

  virtual absl::StatusOr<std::unique_ptr<WritableFile>> OpenForWriting(const std::string& path, WriteMode mode) = 0;
  virtual absl::StatusOr<std::unique_ptr<ReadableFile>> OpenForReading(const std::string& path) = 0;
  // NOT_FOUND where there is nothing. Follows links.
  virtual absl::StatusOr<FileInfo> Stat(const std::string& path) = 0;
  // Replaces `to` in one step. Durable only after SyncFolder of the target's folder. UNIMPLEMENTED where they lie on
  // two disks: copy instead.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // A file, or an empty folder. NOT_FOUND where there is nothing.
  virtual absl::Status Remove(const std::string& path) = 0;
  // With every missing folder above it, each readable by its owner alone. OK where it exists.
  virtual absl::Status CreateFolders(const std::string& path) = 0;
  // Names (not paths) in it, sorted, without "." and "..".
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& folder) = 0;
  // Makes created, renamed and removed names in it durable.
  virtual absl::Status SyncFolder(const std::string& folder) = 0;
  // Sets the modification time, which caches keep as time of last use.
  virtual absl::Status SetModified(const std::string& path, int64_t unix_ms) = 0;
  // What an ordinary user may still write on the disk that holds `path`.
  virtual absl::StatusOr<uint64_t> FreeBytes(const std::string& path) = 0;
  // Creates the file and locks it. ALREADY_EXISTS where another process holds it.
  virtual absl::StatusOr<std::unique_ptr<FileLock>> LockFile(const std::string& path) = 0;

  virtual int64_t NowUnixMs() = 0;  // civil time; may jump
  virtual int64_t
  MonotonicMs() = 0;  // since some fixed moment; never goes back, and counts on while the machine sleeps
  // From the kernel's generator.
  virtual std::string RandomBytes(size_t count) = 0;

  // Built from the above, the same for every Env:

  // RESOURCE_EXHAUSTED where the file is larger than `max_bytes`.
  absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t max_bytes = kMaxWholeFileBytes);
  // The file has the old bytes or the new ones, whenever the power goes, and the new ones once this returned OK: a
  // temporary file beside it, synced, renamed, and the folder synced. Nothing is left behind where it fails.
  absl::Status WriteFileDurably(const std::string& path, std::string_view bytes);
  // The same for what only its owner may read: a key.
  absl::Status WriteSecretDurably(const std::string& path, std::string_view bytes);
  // Appends and syncs. Creating the file also syncs its folder.
  absl::Status AppendDurably(const std::string& path, std::string_view bytes);
  // Makes `to`, or empties it, and syncs what it copied; its name is durable after SyncFolder. A part of it may be left
  // where it fails.
  absl::Status CopyFile(const std::string& from, const std::string& to);
  bool Exists(const std::string& path);
  // A folder with all that is in it, or a file. OK where there is nothing. Links are removed, not followed.
  absl::Status RemoveTree(const std::string& path);

 private:
  absl::Status ReplaceFile(const std::string& path, std::string_view bytes, WriteMode mode);
};

// "a" + "b" -> "a/b"; an empty folder gives the name alone.
std::string JoinPath(std::string_view folder, std::string_view name);
// "a/b" -> "a"; "b" -> "."; "/b" -> "/".
std::string FolderOf(std::string_view path);
// "a/b" -> "b".
std::string FileNameOf(std::string_view path);

// The sentence and code for a failed system call: ErrorFromErrno(ENOSPC, "write", "/x") says that the disk is full, and
// what to do.
absl::Status ErrorFromErrno(int error, std::string_view action, std::string_view path);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_ENV_H_
