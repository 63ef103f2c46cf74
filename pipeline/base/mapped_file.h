// A file mapped into memory, read-only.
#ifndef STORYFARM_PIPELINE_BASE_MAPPED_FILE_H_
#define STORYFARM_PIPELINE_BASE_MAPPED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/unique_fd.h"

namespace storyfarm::base {

enum class Access {
  kSequential,  // read ahead
  kRandom,      // don't
  kWillNeed,    // start reading now, in the background
  kDontNeed,    // the pages may go; they come back from the file when touched
};

// Movable. Const access from any thread. Whoever truncates the file while it is mapped ends the process (SIGBUS): map
// only what nobody writes, such as finished files of a FileStore.
class MappedFile {
 public:
  // NOT_FOUND, PERMISSION_DENIED and so on as Env says; FAILED_PRECONDITION for a folder. An empty file maps to no
  // bytes.
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  // Copies [offset, offset + to.size()) without touching the mapping: faster than faulting its pages in, and no memory of
  // this process. OUT_OF_RANGE beyond the end; else as Env says.
  absl::Status Read(uint64_t offset_bytes, std::span<std::byte> to) const;
  // A hint; what the kernel can't do is left undone. The range is widened to whole pages, and for kDontNeed narrowed.
  void Advise(Access access, uint64_t offset_bytes, uint64_t size_bytes) const;
  void Advise(Access access) const { Advise(access, 0, size_); }

 private:
  MappedFile(std::string path, UniqueFd fd, const std::byte* data, size_t size)
      : path_(std::move(path)), fd_(std::move(fd)), data_(data), size_(size) {}
  void Unmap();
  std::string path_;
  UniqueFd fd_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_MAPPED_FILE_H_
