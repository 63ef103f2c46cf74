#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

#include "pipeline/device/backends.h"
#include "pipeline/device/pinned.h"
#include "pipeline/device/transfer.h"

namespace storyfarm::device {
namespace {

class CudaSlot final : public TransferSlot {
 public:
  CudaSlot(at::Device device, c10::Stream copies) : device_(device), copies_(copies) {}
  ~CudaSlot() override {
    if (sent_) arrived_.synchronize();  // the copy reads and writes what goes now
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

}  // namespace

std::unique_ptr<TransferSlot> NewCudaSlot(at::Device device, c10::Stream copies) {
  return std::make_unique<CudaSlot>(device, copies);
}

}  // namespace storyfarm::device
