#include "pipeline/device/pinned.h"

#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <atomic>

namespace storyfarm::device {
namespace {

// A property of the process, as its resident memory is.
std::atomic<uint64_t> pinned_bytes = 0;

}  // namespace

PinnedBuffer::PinnedBuffer(uint64_t size_bytes) : size_bytes_(size_bytes) {
  using Allocate = int (*)(void**, size_t, unsigned);
  const auto allocate = reinterpret_cast<Allocate>(dlsym(RTLD_DEFAULT, "cudaHostAlloc"));
  TORCH_CHECK(allocate != nullptr, "the CUDA runtime that libtorch uses has no cudaHostAlloc");
  void* bytes = nullptr;
  const int error = allocate(&bytes, size_bytes, /*flags=*/0);
  if (error != 0) {
    // The runtime would tell it again to whoever asks next.
    using Forget = int (*)();
    if (const auto forget = reinterpret_cast<Forget>(dlsym(RTLD_DEFAULT, "cudaGetLastError"))) forget();
  }
  TORCH_CHECK(error == 0, "out of memory: ", size_bytes, " bytes of page-locked host memory (CUDA error ", error, ")");
  bytes_ = static_cast<std::byte*>(bytes);
  pinned_bytes += size_bytes;
}

PinnedBuffer::~PinnedBuffer() {
  using Free = int (*)(void*);
  if (const auto free = reinterpret_cast<Free>(dlsym(RTLD_DEFAULT, "cudaFreeHost"))) free(bytes_);
  pinned_bytes -= size_bytes_;
}

uint64_t PinnedBytes() { return pinned_bytes; }

}  // namespace storyfarm::device
