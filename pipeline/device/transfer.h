// Bytes on their way from host memory to a device while it computes.
#ifndef STORYFARM_PIPELINE_DEVICE_TRANSFER_H_
#define STORYFARM_PIPELINE_DEVICE_TRANSFER_H_

#include <ATen/ATen.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace storyfarm::device {

// One buffer that is filled and read in turn: Prepare, Send, Receive, Release, Prepare and so on. Prepare and Send may
// come from another thread than the rest; whoever calls sees to it that calls do not overlap. All may throw
// c10::Error.
//
//   CPU   the bytes are where they are computed with: nothing is copied
//   MPS   Receive copies
//   CUDA  Send starts a copy from pinned memory on a stream of its own; the computing stream waits for it in Receive
class TransferSlot {
 public:
  virtual ~TransferSlot() = default;
  // Host memory to fill, aligned to 64 bytes, once nothing reads it any more. The slot grows to the largest size asked
  // for and keeps it.
  virtual std::span<std::byte> Prepare(uint64_t size_bytes) = 0;
  // The first `size_bytes` are filled.
  virtual void Send(uint64_t size_bytes) = 0;
  // What was sent, on the device: uint8 [size_bytes]. Valid until Release.
  virtual at::Tensor Receive() = 0;
  // Whatever was launched so far may still read it; nothing launched later will.
  virtual void Release() = 0;
};

// Without copies: for devices that compute in host memory.
std::unique_ptr<TransferSlot> NewHostSlot();
// Copies to `device` when received: for devices without a stream of copies.
std::unique_ptr<TransferSlot> NewCopyingSlot(at::Device device);

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_TRANSFER_H_
