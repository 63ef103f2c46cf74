// What a group costs in bytes and seconds under a given plan: arithmetic over shapes, nothing measured here.
//
// Peak = framework + weights on the device + max(text phase, UNet phase, VAE phase), where
//   UNet phase = latents + bank on its way + passes in one call x (skips + max(feed-forward, attention, resnet)),
//   bank on its way = a ring of layers (reading; with all of the bank, where it stays on the device), or the parts that
//   wait to be written (writing),
//   VAE phase  = the decoder's widest resnet, or in tiles the largest map kept and the widest tile (vae_cost.h).
// Each term is a count of tensors alive at once in eager operators; the constants were checked against a walk over the
// liveness of SDXL's operators at 1024 x 1024: UNet activations 166 MB a pass, VAE decode 1611 MB in fp16.
#ifndef STORYFARM_PIPELINE_PLAN_COST_H_
#define STORYFARM_PIPELINE_PLAN_COST_H_

#include <cstdint>

#include "farm/v1/device.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"

namespace storyfarm::plan {

// 4 for fp32, 2 for fp16 and bf16. `dtype` must be one of them.
uint64_t DtypeBytes(farm::v1::Dtype dtype);

// Weights read again by a group that releases some: from the page cache, where no rate was measured.
inline constexpr double kReloadBytesPerSecond = 1.5e9;
// Speed of a device that measured none: a slow core.
inline constexpr double kAssumedTflops = 0.05;

// What differs between backends, apart from what a device reports.
struct BackendTraits {
  bool attention_materialises_scores;  // no fused kernel for long queries
  uint64_t framework_bytes;            // held by the runtime whatever is rendered
  double efficiency;                   // of a UNet against the measured matmul speed
  double call_seconds;                 // least duration of one UNet call: dispatch and launches
  uint32_t max_batch;                  // frames in one call beyond which nothing is gained
};
BackendTraits TraitsOf(farm::v1::Backend backend);

// Passes through the UNet in one call: frames of the batch x guidance halves, where these are batched.
uint32_t PassesInCall(const farm::v1::GroupShape& shape, const farm::v1::MemoryPlan& plan);

// Identity state of one denoising step, as stored: every CSA layer, both guidance halves, all identity frames.
uint64_t BankStepBytes(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape,
                       const farm::v1::MemoryPlan& plan);
// What a plan keeps of the bank in memory, device and host together: of one call's halves, in the UNet phase.
uint64_t BankHeldBytes(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape,
                       const farm::v1::MemoryPlan& plan);

// Device memory (of the process, where memory is unified) at the group's peak.
uint64_t PeakBytes(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape,
                   const farm::v1::MemoryPlan& plan);

// TFLOP of one frame's pass through the UNet (one guidance half), identity state counted.
double UNetTflop(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape);

// Seconds for the whole group on this device, first loading of the model excluded.
double GroupSeconds(const farm::v1::ModelProfile& model, const farm::v1::DeviceReport& device,
                    const farm::v1::GroupShape& shape, const farm::v1::MemoryPlan& plan);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_COST_H_
