#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "pipeline/device/backends.h"
#include "pipeline/device/landing.h"
#include "pipeline/device/pinned.h"
#include "pipeline/device/transfer.h"

namespace storyfarm::device {
namespace {

class CudaSlot final : public TransferSlot {
 public:
  CudaSlot(at::Device device, c10::Stream copies) : device_(device), copies_(copies) {}
  ~CudaSlot() override {
    try {
      if (sent_) arrived_.synchronize();  // the copy reads and writes what goes now
    } catch (const std::exception&) {     // the device failed: nothing is under way
    }
  }

  std::span<std::byte> Prepare(uint64_t size_bytes) override {
    const c10::InferenceMode inference;
    const c10::DeviceGuard guard(device_);
    if (sent_) arrived_.synchronize();
    if (host_ == nullptr || size_bytes > capacity_bytes_) {
      capacity_bytes_ = std::max<uint64_t>(size_bytes, 1);
      host_ = std::make_unique<PinnedBuffer>(capacity_bytes_);
      on_device_ = at::empty({static_cast<int64_t>(capacity_bytes_)}, at::TensorOptions(at::kByte).device(device_));
      // The allocator may have taken it from tensors that kernels still read.
      released_.record(ComputingStream());
    }
    return {host_->bytes(), size_bytes};
  }

  void Send(uint64_t size_bytes) override {
    const c10::InferenceMode inference;
    size_ = static_cast<int64_t>(size_bytes);
    released_.block(copies_);
    {
      const c10::StreamGuard guard(copies_);
      on_device_.narrow(0, 0, size_).copy_(at::from_blob(host_->bytes(), {size_}, at::kByte), /*non_blocking=*/true);
    }
    arrived_.record(copies_);
    sent_ = true;
  }

  at::Tensor Receive() override {
    arrived_.block(ComputingStream());
    return on_device_.narrow(0, 0, size_);
  }

  void Release() override { released_.record(ComputingStream()); }

 private:
  // Of the calling thread; torch computes on the default stream in all of them.
  c10::Stream ComputingStream() const { return c10::impl::VirtualGuardImpl(at::kCUDA).getStream(device_); }

  const at::Device device_;
  const c10::Stream copies_;
  std::unique_ptr<PinnedBuffer> host_;
  at::Tensor on_device_;
  uint64_t capacity_bytes_ = 0;
  int64_t size_ = 0;
  bool sent_ = false;
  c10::Event arrived_{at::kCUDA};   // the last copy is done
  c10::Event released_{at::kCUDA};  // the last reader is done
};

// Page-locked buffers that no landing uses.
class IdleBuffers {
 public:
  std::unique_ptr<PinnedBuffer> Take(uint64_t size_bytes) {
    {
      const std::lock_guard lock(mutex_);
      const auto large = std::find_if(idle_.begin(), idle_.end(), [&](const auto& buffer) {
        // Small ones leave the large ones alone.
        return buffer->size_bytes() >= size_bytes && buffer->size_bytes() / 2 <= size_bytes;
      });
      if (large != idle_.end()) {
        std::unique_ptr<PinnedBuffer> buffer = std::move(*large);
        idle_.erase(large);
        return buffer;
      }
    }
    return std::make_unique<PinnedBuffer>(size_bytes);
  }
  void GiveBack(std::unique_ptr<PinnedBuffer> buffer) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(buffer));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<PinnedBuffer>> idle_;
};

class CudaLanding final : public Landing {
 public:
  CudaLanding(const at::Tensor& bytes, const c10::Stream& copies, std::shared_ptr<IdleBuffers> idle)
      : size_(static_cast<size_t>(bytes.numel())), from_(bytes), idle_(std::move(idle)), host_(idle_->Take(size_)) {
    const c10::DeviceGuard guard(bytes.device());
    c10::Event computed(at::kCUDA);
    computed.record(c10::impl::VirtualGuardImpl(at::kCUDA).getStream(bytes.device()));
    computed.block(copies);
    {
      const c10::StreamGuard on_copies(copies);
      at::from_blob(host_->bytes(), {bytes.numel()}, at::kByte).copy_(bytes, /*non_blocking=*/true);
    }
    arrived_.record(copies);
  }
  ~CudaLanding() override {
    try {
      Wait();
      idle_->GiveBack(std::move(host_));
    } catch (const std::exception&) {  // the device failed: nothing is under way
    }
  }

  std::span<const std::byte> Wait() override {
    arrived_.synchronize();
    from_.reset();
    return {host_->bytes(), size_};
  }

 private:
  const size_t size_;
  at::Tensor from_;  // until it is copied
  const std::shared_ptr<IdleBuffers> idle_;
  std::unique_ptr<PinnedBuffer> host_;
  c10::Event arrived_{at::kCUDA};
};

class CudaLandings final : public Landings {
 public:
  explicit CudaLandings(c10::Stream copies) : copies_(copies) {}
  std::shared_ptr<Landing> Begin(const at::Tensor& bytes) override {
    return std::make_shared<CudaLanding>(bytes, copies_, idle_);
  }

 private:
  const c10::Stream copies_;
  const std::shared_ptr<IdleBuffers> idle_ = std::make_shared<IdleBuffers>();
};

}  // namespace

std::unique_ptr<Landings> NewCudaLandings(c10::Stream copies) { return std::make_unique<CudaLandings>(copies); }

std::unique_ptr<TransferSlot> NewCudaSlot(at::Device device, c10::Stream copies) {
  return std::make_unique<CudaSlot>(device, copies);
}

}  // namespace storyfarm::device
