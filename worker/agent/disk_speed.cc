// Straight at the system's calls, past base::Env: what is measured is this disk, without its cache.
#include "worker/agent/disk_speed.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "pipeline/base/env.h"
#include "pipeline/base/unique_fd.h"

namespace storyfarm::worker {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kChunkBytes = size_t{4} << 20;
constexpr size_t kMostChunks = 16;
constexpr double kMostSeconds = 0.5;  // of writing, and of reading

double SecondsSince(Clock::time_point start) {
  return std::max(1e-6, std::chrono::duration<double>(Clock::now() - start).count());
}

// To the disk, and out of the system's cache.
bool Flush(int fd) {
#ifdef __APPLE__
  return fcntl(fd, F_FULLFSYNC) == 0 && fcntl(fd, F_NOCACHE, 1) == 0;
#else
  return fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0;
#endif
}

absl::StatusOr<DiskSpeed> Measure(int fd, const std::string& path) {
  // Bytes that no disk compresses or finds again: a multiplicative generator (Knuth, MMIX).
  std::string chunk(kChunkBytes, '\0');
  uint64_t state = 88172645463325252u;
  for (char& byte : chunk) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(state >> 56);
  }
  DiskSpeed speed;
  size_t chunks = 0;
  const auto writing = Clock::now();
  while (chunks < kMostChunks && (chunks == 0 || SecondsSince(writing) < kMostSeconds)) {
    size_t done = 0;
    while (done < chunk.size()) {
      const ssize_t written = write(fd, chunk.data() + done, chunk.size() - done);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return base::ErrorFromErrno(errno, "write", path);
      done += static_cast<size_t>(written);
    }
    ++chunks;
  }
  if (!Flush(fd)) return base::ErrorFromErrno(errno, "sync", path);
  speed.write_bytes_per_s = static_cast<uint64_t>(static_cast<double>(chunks * kChunkBytes) / SecondsSince(writing));
  size_t read_bytes = 0;
  const auto reading = Clock::now();
  while (read_bytes < chunks * kChunkBytes && (read_bytes == 0 || SecondsSince(reading) < kMostSeconds)) {
    const ssize_t count = pread(fd, chunk.data(), chunk.size(), static_cast<off_t>(read_bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return base::ErrorFromErrno(count < 0 ? errno : EIO, "read", path);
    read_bytes += static_cast<size_t>(count);
  }
  speed.read_bytes_per_s = static_cast<uint64_t>(static_cast<double>(read_bytes) / SecondsSince(reading));
  return speed;
}

}  // namespace

absl::StatusOr<DiskSpeed> MeasureDisk(const std::string& folder) {
  const std::string path = base::JoinPath(folder, "disk-probe");
  const base::UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (file.get() < 0) return base::ErrorFromErrno(errno, "create", path);
  absl::StatusOr<DiskSpeed> speed = Measure(file.get(), path);
  if (unlink(path.c_str()) != 0 && speed.ok()) return base::ErrorFromErrno(errno, "remove", path);
  return speed;
}

}  // namespace storyfarm::worker
