#include "pipeline/device/transfer.h"

#include "pipeline/device/landing.h"

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

namespace {

class CopiedLanding final : public Landing {
 public:
  explicit CopiedLanding(const at::Tensor& bytes) : host_(bytes.to(at::kCPU)) {}
  std::span<const std::byte> Wait() override {
    return {static_cast<const std::byte*>(host_.const_data_ptr()), static_cast<size_t>(host_.numel())};
  }

 private:
  const at::Tensor host_;
};

class CopiedLandings final : public Landings {
 public:
  std::shared_ptr<Landing> Begin(const at::Tensor& bytes) override { return std::make_shared<CopiedLanding>(bytes); }
};

}  // namespace

std::unique_ptr<Landings> NewCopiedLandings() { return std::make_unique<CopiedLandings>(); }

}  // namespace storyfarm::device
