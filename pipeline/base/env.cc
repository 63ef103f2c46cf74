#include "pipeline/base/env.h"

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

namespace storyfarm::base {
namespace {

// Deeper trees than ours need; a bound for RemoveTree's recursion.
constexpr int kMaxTreeDepth = 64;
constexpr size_t kCopyPieceBytes = size_t{1} << 20;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// The text of an errno without the global buffer of strerror.
std::string ErrnoText(int error) {
  char buffer[256] = "";
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
  return strerror_r(error, buffer, sizeof buffer);
#else
  if (strerror_r(error, buffer, sizeof buffer) != 0) return absl::StrCat("error ", error);
  return buffer;
#endif
}

absl::Status RemoveTreeBelow(Env& env, const std::string& path, int depth) {
  if (depth > kMaxTreeDepth) {
    return absl::FailedPreconditionError(absl::StrCat("Can't remove ", path, ": folders nested too deep."));
  }
  // A link to a folder is removed as a link: Remove works on it, where it fails on a folder with entries.
  absl::Status removed = env.Remove(path);
  if (removed.ok() || absl::IsNotFound(removed)) return absl::OkStatus();
  absl::StatusOr<std::vector<std::string>> names = env.List(path);
  if (!names.ok()) return removed;
  for (const std::string& name : *names) {
    absl::Status below = RemoveTreeBelow(env, JoinPath(path, name), depth + 1);
    if (!below.ok()) return below;
  }
  removed = env.Remove(path);
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

}  // namespace

absl::StatusOr<std::string> Env::ReadFile(const std::string& path, uint64_t max_bytes) {
  absl::StatusOr<std::unique_ptr<ReadableFile>> file = OpenForReading(path);
  if (!file.ok()) return file.status();
  const uint64_t size = (*file)->SizeBytes();
  if (size > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, " has ", size, " bytes; at most ", max_bytes, " are read of such a file."));
  }
  std::string bytes(size, '\0');
  absl::StatusOr<size_t> read = (*file)->ReadAt(0, bytes.data(), bytes.size());
  if (!read.ok()) return read.status();
  bytes.resize(*read);
  return bytes;
}

absl::Status Env::WriteFileDurably(const std::string& path, std::string_view bytes) {
  return ReplaceFile(path, bytes, WriteMode::kTruncate);
}

absl::Status Env::WriteSecretDurably(const std::string& path, std::string_view bytes) {
  return ReplaceFile(path, bytes, WriteMode::kSecret);
}

absl::Status Env::ReplaceFile(const std::string& path, std::string_view bytes, WriteMode mode) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string temporary = absl::StrCat(path, ".tmp-");
  for (unsigned char byte : RandomBytes(6)) {
    temporary.push_back(kHex[byte >> 4]);
    temporary.push_back(kHex[byte & 15]);
  }
  absl::Status status = [&] {
    absl::StatusOr<std::unique_ptr<WritableFile>> file = OpenForWriting(temporary, mode);
    if (!file.ok()) return file.status();
    if (absl::Status s = (*file)->Append(bytes); !s.ok()) return s;
    if (absl::Status s = (*file)->Sync(); !s.ok()) return s;
    if (absl::Status s = (*file)->Close(); !s.ok()) return s;
    return Rename(temporary, path);
  }();
  if (!status.ok()) {
    // The first error is the one to report; a leftover would only be litter.
    Remove(temporary).IgnoreError();
    return status;
  }
  return SyncFolder(FolderOf(path));
}

absl::Status Env::AppendDurably(const std::string& path, std::string_view bytes) {
  const bool existed = Exists(path);
  absl::StatusOr<std::unique_ptr<WritableFile>> file = OpenForWriting(path, WriteMode::kAppend);
  if (!file.ok()) return file.status();
  if (absl::Status s = (*file)->Append(bytes); !s.ok()) return s;
  if (absl::Status s = (*file)->Sync(); !s.ok()) return s;
  if (absl::Status s = (*file)->Close(); !s.ok()) return s;
  return existed ? absl::OkStatus() : SyncFolder(FolderOf(path));
}

absl::Status Env::CopyFile(const std::string& from, const std::string& to) {
  absl::StatusOr<std::unique_ptr<ReadableFile>> source = OpenForReading(from);
  if (!source.ok()) return source.status();
  absl::StatusOr<std::unique_ptr<WritableFile>> target = OpenForWriting(to, WriteMode::kTruncate);
  if (!target.ok()) return target.status();
  std::vector<char> piece(kCopyPieceBytes);
  for (uint64_t offset = 0;;) {
    absl::StatusOr<size_t> got = (*source)->ReadAt(offset, piece.data(), piece.size());
    if (!got.ok()) return got.status();
    if (*got == 0) break;
    if (absl::Status s = (*target)->Append({piece.data(), *got}); !s.ok()) return s;
    offset += *got;
  }
  if (absl::Status s = (*target)->Sync(); !s.ok()) return s;
  return (*target)->Close();
}

bool Env::Exists(const std::string& path) { return Stat(path).ok(); }

absl::Status Env::RemoveTree(const std::string& path) { return RemoveTreeBelow(*this, path, 0); }

std::string JoinPath(std::string_view folder, std::string_view name) {
  if (folder.empty()) return std::string(name);
  if (folder.back() == '/') return absl::StrCat(View(folder), View(name));
  return absl::StrCat(View(folder), "/", View(name));
}

std::string FolderOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

std::string FileNameOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

absl::Status ErrorFromErrno(int error, std::string_view action, std::string_view path) {
  const std::string what = absl::StrCat("Can't ", View(action), " ", View(path), ": ");
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(absl::StrCat(what, "it does not exist."));
    case EEXIST:
      return absl::AlreadyExistsError(absl::StrCat(what, "it exists already."));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(
          absl::StrCat(what, "permission denied. Check who owns it and its folder, and what they allow."));
    case EROFS:
      return absl::PermissionDeniedError(absl::StrCat(what, "the file system is read-only."));
    case ENOSPC:
      return absl::ResourceExhaustedError(absl::StrCat(what, "the disk is full. Free some space and try again."));
    case EDQUOT:
      return absl::ResourceExhaustedError(
          absl::StrCat(what, "the disk quota is used up. Free some space and try again."));
    case EFBIG:
      return absl::ResourceExhaustedError(absl::StrCat(what, "the file would be larger than this disk allows."));
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(
          absl::StrCat(what, "too many open files. Raise the limit (ulimit -n) and start again."));
    case ENOMEM:
      return absl::ResourceExhaustedError(absl::StrCat(what, "out of memory."));
    case EISDIR:
      return absl::FailedPreconditionError(absl::StrCat(what, "it is a folder, not a file."));
    case ENOTDIR:
      return absl::FailedPreconditionError(absl::StrCat(what, "a part of the path is a file, not a folder."));
    case ENOTEMPTY:
      return absl::FailedPreconditionError(absl::StrCat(what, "the folder is not empty."));
    case ENAMETOOLONG:
    case EINVAL:
    case ELOOP:
      return absl::InvalidArgumentError(absl::StrCat(what, ErrnoText(error), "."));
    case EIO:
      return absl::DataLossError(absl::StrCat(what, "the disk reports an error (EIO). It may be failing."));
    default:
      return absl::InternalError(absl::StrCat(what, ErrnoText(error), " (errno ", error, ")."));
  }
}

}  // namespace storyfarm::base
