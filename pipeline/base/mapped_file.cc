#include "pipeline/base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "pipeline/base/env.h"
#include "pipeline/base/unique_fd.h"

namespace storyfarm::base {

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  // O_NONBLOCK: a pipe without a writer would block the open.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return ErrorFromErrno(errno, "read", path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return ErrorFromErrno(errno, "read", path);
  if (S_ISDIR(info.st_mode)) return ErrorFromErrno(EISDIR, "read", path);
  if (!S_ISREG(info.st_mode)) return absl::FailedPreconditionError("Can't map " + path + ": it is not a file.");
  const size_t size = static_cast<size_t>(info.st_size);
  if (size == 0) return MappedFile(path, std::move(fd), nullptr, 0);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) return ErrorFromErrno(errno, "map", path);
  return MappedFile(path, std::move(fd), static_cast<const std::byte*>(data), size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::move(other.fd_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    Unmap();
    path_ = std::move(other.path_);
    fd_ = std::move(other.fd_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

MappedFile::~MappedFile() { Unmap(); }

void MappedFile::Unmap() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  data_ = nullptr;
  size_ = 0;
}

absl::Status MappedFile::Read(uint64_t offset_bytes, std::span<std::byte> to) const {
  if (offset_bytes > size_ || to.size() > size_ - offset_bytes) {
    return absl::OutOfRangeError(path_ + " ends before byte " + std::to_string(offset_bytes + to.size()));
  }
  while (!to.empty()) {
    const ssize_t count = ::pread(fd_.get(), to.data(), to.size(), static_cast<off_t>(offset_bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrorFromErrno(errno, "read", path_);
    if (count == 0) return absl::OutOfRangeError(path_ + " was shortened while it was in use");
    to = to.subspan(static_cast<size_t>(count));
    offset_bytes += static_cast<uint64_t>(count);
  }
  return absl::OkStatus();
}

void MappedFile::Advise(Access access, uint64_t offset_bytes, uint64_t size_bytes) const {
  if (data_ == nullptr || offset_bytes >= size_) return;
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  uint64_t begin = offset_bytes;
  uint64_t end = offset_bytes + std::min<uint64_t>(size_bytes, size_ - offset_bytes);
  if (access == Access::kDontNeed) {
    begin = (begin + page - 1) / page * page;
    if (end != size_) end = end / page * page;
  } else {
    begin = begin / page * page;
  }
  if (begin >= end) return;
  int advice = POSIX_MADV_WILLNEED;
  if (access == Access::kSequential) advice = POSIX_MADV_SEQUENTIAL;
  if (access == Access::kRandom) advice = POSIX_MADV_RANDOM;
  void* address = const_cast<std::byte*>(data_ + begin);
  if (access == Access::kDontNeed) {
    // glibc's posix_madvise ignores POSIX_MADV_DONTNEED; for a read-only file mapping MADV_DONTNEED loses nothing.
    ::madvise(address, end - begin, MADV_DONTNEED);
  } else {
    ::posix_madvise(address, end - begin, advice);
  }
}

}  // namespace storyfarm::base
