#include "pipeline/device/transfer.h"

namespace storyfarm::device {
namespace {

class HostSlot : public TransferSlot {
 public:
  std::span<std::byte> Prepare(uint64_t size_bytes) override {
    const c10::InferenceMode inference;
    const auto size = static_cast<int64_t>(size_bytes);
    // Torch's CPU allocator aligns to 64 bytes.
    if (!buffer_.defined() || buffer_.numel() < size) buffer_ = at::empty({size}, at::kByte);
    return {static_cast<std::byte*>(buffer_.mutable_data_ptr()), size_bytes};
  }
  void Send(uint64_t size_bytes) override { size_ = static_cast<int64_t>(size_bytes); }
  at::Tensor Receive() override { return buffer_.narrow(0, 0, size_); }
  void Release() override {}

 private:
  at::Tensor buffer_;
  int64_t size_ = 0;
};

class CopyingSlot final : public HostSlot {
 public:
  explicit CopyingSlot(at::Device device) : device_(device) {}
  at::Tensor Receive() override { return HostSlot::Receive().to(device_); }

 private:
  at::Device device_;
};

}  // namespace

std::unique_ptr<TransferSlot> NewHostSlot() { return std::make_unique<HostSlot>(); }
std::unique_ptr<TransferSlot> NewCopyingSlot(at::Device device) { return std::make_unique<CopyingSlot>(device); }

}  // namespace storyfarm::device
