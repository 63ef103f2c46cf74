// Page-locked host memory, which a CUDA device copies from at the bus's own rate. Internal to this folder.
#ifndef STORYFARM_PIPELINE_DEVICE_PINNED_H_
#define STORYFARM_PIPELINE_DEVICE_PINNED_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace storyfarm::device {

// Of the CUDA runtime that libtorch_cuda brought along (CUDA Runtime API, cudaHostAlloc): torch's own pinned allocator
// rounds up to powers of two. Throws c10::Error.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(uint64_t size_bytes);
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  ~PinnedBuffer();
  std::byte* bytes() const { return bytes_; }
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  uint64_t size_bytes_;
  std::byte* bytes_ = nullptr;
};

// Of all buffers of this process. Any thread.
uint64_t PinnedBytes();

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_PINNED_H_
