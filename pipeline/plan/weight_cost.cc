#include "pipeline/plan/weight_cost.h"

#include <algorithm>

#include "pipeline/plan/cost.h"

namespace storyfarm::plan {
namespace {

using farm::v1::DeviceReport;
using farm::v1::MemoryPlan;
using farm::v1::ModelProfile;

// Blocks that fit the ring: the one that computes and the one that arrives.
constexpr uint64_t kBlocksInRing = 2;
// Rates of a device that reports none. From the file itself, where device and host share their memory: the slowest
// NVMe disks that machines of the last years were sold with. From the page cache to a card: pageable memory over PCIe
// 3.0 x8, at half of its 8 GB/s.
constexpr double kDiskBytesPerSecond = 1.5e9;
constexpr double kCopyBytesPerSecond = 4e9;
// Copies and kernels share the memory's bandwidth, and the rates are those of an otherwise idle disk or bus: of the
// shorter of a sweep's copying and computing. Counted high, so that weights stream where that is clearly better than
// saving memory elsewhere.
constexpr double kContention = 0.25;
// TFLOP's worth of a weight unpacked from int8 (5 bytes moved in half precision, 9 in fp32), from what devices of the
// kind compute in the time in which they move a byte: 230 FLOP on an H100 (760 TFLOP/s, 3.3 TB/s), 40 on an M1 (2.6
// TFLOP/s, 68 GB/s), 8 on two cores of a server (0.15 TFLOP/s, 20 GB/s). Estimates.
double UnpackFlop(farm::v1::Backend backend) {
  switch (backend) {
    case farm::v1::CUDA:
      return 5 * 230;
    case farm::v1::MPS:
      return 5 * 40;
    default:
      return 9 * 8;
  }
}

double WeightRate(const DeviceReport& device) {
  if (device.unified() || device.backend() != farm::v1::CUDA) {
    return device.disk_read_bytes_per_s() > 0 ? static_cast<double>(device.disk_read_bytes_per_s())
                                              : kDiskBytesPerSecond;
  }
  return device.host_to_device_bytes_per_s() > 0 ? static_cast<double>(device.host_to_device_bytes_per_s())
                                                 : kCopyBytesPerSecond;
}

// Of the blocks, those that stay.
double ResidentShare(const ModelProfile& model, const MemoryPlan& plan) {
  const auto all = static_cast<double>(BlockBytes(model, plan));
  if (plan.weights() != farm::v1::STREAMED || all == 0) return 1;
  return std::min(1.0, static_cast<double>(plan.resident_weight_bytes()) / all);
}

}  // namespace

uint64_t BlockBytes(const ModelProfile& model, const MemoryPlan& plan) {
  const uint64_t element = DtypeBytes(plan.dtype());
  if (!plan.int8_weights()) return model.unet_block_parameters() * element;
  return model.unet_block_parameters() + model.unet_block_scales() * element;
}

uint64_t WeightBufferBytes(const ModelProfile& model, const MemoryPlan& plan) {
  const uint64_t element = DtypeBytes(plan.dtype());
  return std::min(kBlocksInRing * model.largest_block_parameters(), model.unet_block_parameters()) * element;
}

uint64_t UNetWeightBytes(const ModelProfile& model, const MemoryPlan& plan) {
  const uint64_t always =
      (model.unet_parameters() - std::min(model.unet_parameters(), model.unet_block_parameters())) *
      DtypeBytes(plan.dtype());
  return always + (plan.weights() == farm::v1::STREAMED ? plan.resident_weight_bytes() : BlockBytes(model, plan));
}

uint64_t UnpackedBytes(const ModelProfile& model, const MemoryPlan& plan) {
  return plan.int8_weights() ? model.largest_tensor_parameters() * DtypeBytes(plan.dtype()) : 0;
}

double UnpackTflop(const ModelProfile& model, const MemoryPlan& plan) {
  if (!plan.int8_weights()) return 0;
  return static_cast<double>(model.unet_block_parameters()) * ResidentShare(model, plan) * UnpackFlop(plan.backend()) *
         1e-12;
}

double StreamSeconds(const ModelProfile& model, const DeviceReport& device, const MemoryPlan& plan,
                     double sweep_seconds) {
  if (plan.weights() != farm::v1::STREAMED) return 0;
  const double bytes = static_cast<double>(model.unet_block_parameters() * DtypeBytes(plan.dtype())) *
                       (1 - ResidentShare(model, plan));
  const double copying = bytes / WeightRate(device);
  return std::max(0.0, copying - sweep_seconds) + kContention * std::min(copying, sweep_seconds);
}

}  // namespace storyfarm::plan
