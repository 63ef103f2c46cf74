// Env over POSIX.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include <sys/random.h>

#include "pipeline/base/env.h"
#include "pipeline/base/unique_fd.h"

namespace storyfarm::base {

void UniqueFd::Reset() {
  // After EINTR the descriptor is gone on Linux and unspecified elsewhere: closing again could hit another thread's.
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

namespace {

// Linux moves at most 2 GiB in one call; smaller pieces behave alike everywhere.
constexpr size_t kMaxIoBytes = size_t{1} << 30;

template <typename Call>
auto RetryOnInterrupt(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

absl::Status SyncDescriptor(int fd, const std::string& path) {
#if defined(__APPLE__)
  // fsync on macOS stops at the drive's cache. Network disks don't know F_FULLFSYNC.
  if (RetryOnInterrupt([&] { return ::fcntl(fd, F_FULLFSYNC); }) == 0) return absl::OkStatus();
#endif
  if (RetryOnInterrupt([&] { return ::fsync(fd); }) == 0) return absl::OkStatus();
  return ErrorFromErrno(errno, "sync", path);
}

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  absl::Status Append(std::string_view bytes) override {
    while (!bytes.empty()) {
      const size_t piece = std::min(bytes.size(), kMaxIoBytes);
      const ssize_t written = RetryOnInterrupt([&] { return ::write(fd_.get(), bytes.data(), piece); });
      if (written < 0) return ErrorFromErrno(errno, "write", path_);
      bytes.remove_prefix(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }
  absl::Status WriteAt(uint64_t offset_bytes, std::string_view bytes) override {
    while (!bytes.empty()) {
      const size_t piece = std::min(bytes.size(), kMaxIoBytes);
      const ssize_t written =
          RetryOnInterrupt([&] { return ::pwrite(fd_.get(), bytes.data(), piece, static_cast<off_t>(offset_bytes)); });
      if (written < 0) return ErrorFromErrno(errno, "write", path_);
      bytes.remove_prefix(static_cast<size_t>(written));
      offset_bytes += static_cast<uint64_t>(written);
    }
    return absl::OkStatus();
  }
  absl::Status Sync() override { return SyncDescriptor(fd_.get(), path_); }
  absl::Status Close() override {
    if (!fd_.valid()) return absl::OkStatus();
    if (::close(fd_.Release()) == 0 || errno == EINTR) return absl::OkStatus();
    return ErrorFromErrno(errno, "close", path_);
  }

 private:
  UniqueFd fd_;
  const std::string path_;
};

class PosixReadableFile final : public ReadableFile {
 public:
  PosixReadableFile(UniqueFd fd, std::string path, uint64_t size)
      : fd_(std::move(fd)), path_(std::move(path)), size_bytes_(size) {}

  absl::StatusOr<size_t> ReadAt(uint64_t offset_bytes, char* buffer, size_t size) const override {
    size_t done = 0;
    while (done < size) {
      const size_t piece = std::min(size - done, kMaxIoBytes);
      const ssize_t got = RetryOnInterrupt(
          [&] { return ::pread(fd_.get(), buffer + done, piece, static_cast<off_t>(offset_bytes + done)); });
      if (got < 0) return ErrorFromErrno(errno, "read", path_);
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }
  uint64_t SizeBytes() const override { return size_bytes_; }

 private:
  const UniqueFd fd_;
  const std::string path_;
  const uint64_t size_bytes_;
};

class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(UniqueFd fd) : fd_(std::move(fd)) {}

 private:
  const UniqueFd fd_;  // closing it releases the lock
};

int64_t Milliseconds(const timespec& time) { return int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1'000'000; }

int64_t ReadClock(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return Milliseconds(now);
}

class RealEnv final : public Env {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForWriting(const std::string& path, WriteMode mode) override {
    const int how = mode == WriteMode::kTruncate ? O_TRUNC : mode == WriteMode::kAppend ? O_APPEND : O_EXCL;
    const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | how;
    const mode_t access = mode == WriteMode::kSecret ? 0600 : 0666;
    UniqueFd fd(RetryOnInterrupt([&] { return ::open(path.c_str(), flags, access); }));
    if (!fd.valid()) return ErrorFromErrno(errno, "write", path);
    return std::make_unique<PosixWritableFile>(std::move(fd), path);
  }

  absl::StatusOr<std::unique_ptr<ReadableFile>> OpenForReading(const std::string& path) override {
    // A pipe without a writer would block the open.
    UniqueFd fd(RetryOnInterrupt([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }));
    if (!fd.valid()) return ErrorFromErrno(errno, "read", path);
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return ErrorFromErrno(errno, "read", path);
    if (S_ISDIR(info.st_mode)) return ErrorFromErrno(EISDIR, "read", path);
    if (!S_ISREG(info.st_mode)) return absl::FailedPreconditionError("Can't read " + path + ": it is not a file.");
    return std::make_unique<PosixReadableFile>(std::move(fd), path, static_cast<uint64_t>(info.st_size));
  }

  absl::StatusOr<FileInfo> Stat(const std::string& path) override {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return ErrorFromErrno(errno, "look at", path);
    FileInfo result;
    result.size_bytes = static_cast<uint64_t>(info.st_size);
    result.is_folder = S_ISDIR(info.st_mode);
#if defined(__APPLE__)
    result.modified_unix_ms = Milliseconds(info.st_mtimespec);
#else
    result.modified_unix_ms = Milliseconds(info.st_mtim);
#endif
    return result;
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
    const int error = errno;
    // The caller tells another disk from other failures, and copies.
    if (error == EXDEV)
      return absl::UnimplementedError("Can't move " + from + " to " + to + ": they are on two disks.");
    return ErrorFromErrno(error, "move " + from + " to", to);
  }

  absl::Status Remove(const std::string& path) override {
    if (::remove(path.c_str()) == 0) return absl::OkStatus();
    // POSIX lets a full folder answer either.
    return ErrorFromErrno(errno == EEXIST ? ENOTEMPTY : errno, "remove", path);
  }

  absl::Status CreateFolders(const std::string& path) override {
    for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
      const std::string folder = path.substr(0, end);
      if (!folder.empty() && ::mkdir(folder.c_str(), 0700) != 0) {
        const int error = errno;  // EEXIST, but also EROFS or EACCES where an existing one lies in a closed folder
        struct stat info {};
        if (::stat(folder.c_str(), &info) != 0) return ErrorFromErrno(error, "create the folder", folder);
        if (!S_ISDIR(info.st_mode)) return ErrorFromErrno(ENOTDIR, "create the folder", folder);
      }
      if (end == std::string::npos) return absl::OkStatus();
    }
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override {
    DIR* stream = ::opendir(folder.c_str());
    if (stream == nullptr) return ErrorFromErrno(errno, "list", folder);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(stream)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
      errno = 0;
    }
    const int error = errno;
    ::closedir(stream);
    if (error != 0) return ErrorFromErrno(error, "list", folder);
    std::sort(names.begin(), names.end());
    return names;
  }

  absl::Status SyncFolder(const std::string& folder) override {
    UniqueFd fd(RetryOnInterrupt([&] { return ::open(folder.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY); }));
    if (!fd.valid()) return ErrorFromErrno(errno, "sync the folder", folder);
    return SyncDescriptor(fd.get(), folder);
  }

  absl::Status SetModified(const std::string& path, int64_t unix_ms) override {
    timespec times[2];
    times[0].tv_sec = 0;
    times[0].tv_nsec = UTIME_OMIT;
    times[1].tv_sec = static_cast<time_t>(unix_ms / 1000);
    times[1].tv_nsec = static_cast<long>(unix_ms % 1000) * 1'000'000;
    if (::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0) return absl::OkStatus();
    return ErrorFromErrno(errno, "set the time of", path);
  }

  absl::StatusOr<uint64_t> FreeBytes(const std::string& path) override {
    struct statvfs info {};
    if (RetryOnInterrupt([&] { return ::statvfs(path.c_str(), &info); }) != 0) {
      return ErrorFromErrno(errno, "ask the free space of", path);
    }
    return uint64_t{info.f_bavail} * uint64_t{info.f_frsize};
  }

  absl::StatusOr<std::unique_ptr<FileLock>> LockFile(const std::string& path) override {
    UniqueFd fd(RetryOnInterrupt([&] { return ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600); }));
    if (!fd.valid()) return ErrorFromErrno(errno, "lock", path);
    if (RetryOnInterrupt([&] { return ::flock(fd.get(), LOCK_EX | LOCK_NB); }) != 0) {
      if (errno == EWOULDBLOCK) {
        return absl::AlreadyExistsError("Another process holds " + path + ". End it, or use another folder.");
      }
      return ErrorFromErrno(errno, "lock", path);
    }
    return std::make_unique<PosixFileLock>(std::move(fd));
  }

  int64_t NowUnixMs() override { return ReadClock(CLOCK_REALTIME); }

  int64_t MonotonicMs() override {
#if defined(__APPLE__)
    return ReadClock(CLOCK_MONOTONIC);  // counts while the machine sleeps, unlike Linux's
#else
    return ReadClock(CLOCK_BOOTTIME);
#endif
  }

  std::string RandomBytes(size_t count) override {
    std::string bytes(count, '\0');
    constexpr size_t kMaxEntropyBytes = 256;  // of one getentropy
    for (size_t done = 0; done < count;) {
      const size_t piece = std::min(count - done, kMaxEntropyBytes);
      if (::getentropy(bytes.data() + done, piece) != 0) {
        // Predictable tokens would be worse than no process.
        std::perror("storyfarm: the kernel gives no random bytes (getentropy)");
        std::abort();
      }
      done += piece;
    }
    return bytes;
  }
};

}  // namespace

Env& Env::Real() {
  static RealEnv env;
  return env;
}

}  // namespace storyfarm::base
