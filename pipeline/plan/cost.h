// What a group costs in bytes and seconds under a given plan: arithmetic over shapes, nothing measured here.
//
// Peak = framework + workspace + weights on the device + max(text phase, UNet phase, VAE phase), where
//   weights on the device = the VAE's, and of the UNet's those that stay (weight_cost.h); a bank's ring lies with them,
//   UNet phase = latents + passes in one call x (skips + max(feed-forward, attention, resnet)), at the level where this
//                is most + the ring of streamed weights, or the largest of the rounded ones + a bank's parts in writing,
//   a bank's ring = the layers on their way to readers; with all of the bank, where it stays on the device,
//   with recorded calls (graphs) the UNet phase's memory stays taken, beside the VAE's or a second call's,
//   VAE phase  = the decoder's widest resnet, or in tiles the largest map kept and the widest tile (vae_cost.h).
// Each term is a count of tensors alive at once in eager operators; the constants were checked against a walk over the
// liveness of SDXL's operators at 1024 x 1024 (UNet activations 166 MB a pass, 130 with the kernels of
// pipeline/device/cuda; VAE decode 1611 MB in fp16) and against what a card took (tools/bench/memory_sweep.py).
#ifndef STORYFARM_PIPELINE_PLAN_COST_H_
#define STORYFARM_PIPELINE_PLAN_COST_H_

#include <cstdint>

#include "farm/v1/device.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"
#include "pipeline/plan/traits.h"  // IWYU pragma: export

namespace storyfarm::plan {

// 4 for fp32, 2 for fp16 and bf16. `dtype` must be one of them.
uint64_t DtypeBytes(farm::v1::Dtype dtype);

// Weights read again by a group that releases some: from the page cache, where no rate was measured.
inline constexpr double kReloadBytesPerSecond = 1.5e9;
// Layers waiting to be written with which a write pass waits for its disk now and then.
inline constexpr uint32_t kShallowQueue = 3;
// Speed of a device that measured none: a slow core.
inline constexpr double kAssumedTflops = 0.05;

// Passes through the UNet in one call: frames of the batch x guidance halves, where these are batched.
uint32_t PassesInCall(const farm::v1::GroupShape& shape, const farm::v1::MemoryPlan& plan);

// Device memory while prompts are encoded with nothing else on the device.
uint64_t TextPhaseBytes(const farm::v1::ModelProfile& model, const farm::v1::MemoryPlan& plan);

// Identity state of one denoising step, as stored: every CSA layer, both guidance halves, all identity frames.
uint64_t BankStepBytes(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape,
                       const farm::v1::MemoryPlan& plan);
// What a plan keeps of the bank in memory, device and host together: of one call's halves, in the UNet phase.
uint64_t BankHeldBytes(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape,
                       const farm::v1::MemoryPlan& plan);

// The largest tensor of scores that an attention of the group makes, where the backend materialises them; else 0.
double LargestScoresBytes(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape,
                          const farm::v1::MemoryPlan& plan);

// Device memory (of the process, where memory is unified) at the group's peak.
uint64_t PeakBytes(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape,
                   const farm::v1::MemoryPlan& plan);

// TFLOP of one frame's pass through the UNet (one guidance half), identity state counted.
double UNetTflop(const farm::v1::ModelProfile& model, const farm::v1::GroupShape& shape);

// How a group runs, however its weights are kept.
struct Pace {
  double seconds = 0;        // of the whole group with exact, resident weights
  double calls = 0;          // of the UNet
  double sweeps = 0;         // over the UNet's weights: calls, but for frames in lock step, which share one
  double sweep_seconds = 0;  // that one computes
  double tflops = 0;         // TFLOP/s reached
};
Pace PaceOf(const farm::v1::ModelProfile& model, const farm::v1::DeviceReport& device,
            const farm::v1::GroupShape& shape, const farm::v1::MemoryPlan& plan);

// Seconds for the whole group on this device, first loading of the model excluded. Never less than with exact, resident
// weights and all else equal.
double GroupSeconds(const farm::v1::ModelProfile& model, const farm::v1::DeviceReport& device,
                    const farm::v1::GroupShape& shape, const farm::v1::MemoryPlan& plan);
// The same, where the pace of the plan's other choices is known already.
double GroupSeconds(const farm::v1::ModelProfile& model, const farm::v1::DeviceReport& device,
                    const farm::v1::MemoryPlan& plan, const Pace& pace);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_COST_H_
