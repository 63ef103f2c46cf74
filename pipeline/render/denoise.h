// The denoising loop: noise to final latents, for frames of one size in one batch.
#ifndef STORYFARM_PIPELINE_RENDER_DENOISE_H_
#define STORYFARM_PIPELINE_RENDER_DENOISE_H_

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/device/landing.h"
#include "pipeline/identity/identity.h"
#include "pipeline/render/loaded_model.h"
#include "pipeline/render/request.h"
#include "pipeline/sdxl/scheduler.h"
#include "pipeline/sdxl/unet.h"

namespace storyfarm::render {

// One frame of a batch.
struct BatchFrame {
  const Frame* frame = nullptr;
  identity::FrameName name;
  const FramePrompts* prompts = nullptr;
};

struct DenoiseOptions {
  double guidance_scale = 5;
  bool guidance_batched = true;
  identity::LatentShape shape;
  // The pass, where its frames run one at a time: the UNet's units in lock step over the frames, each site in two
  // sweeps (gather, attend), first all unconditional halves and then all conditional ones. So the activations of one
  // frame and half are alive at a time, beside the skips of all frames. Null: all frames in one call.
  identity::WritePass* lock_step = nullptr;
};

// Called with the number of finished steps, from 1, and their latents; a device that computes beside this thread may
// still be at the newest one, of which it is not known yet whether it is finite, but for the last. An error ends the loop.
using AfterStep = std::function<absl::Status(int finished, const at::Tensor& latents)>;

// Runs all of the scheduler's steps over `frames`. `pass` null: plain self-attention. Returns [frames, channels,
// height, width], float32. INVALID_OUTPUT names the frame and the step at which latents stopped being finite.
// What `pass` met ends the loop after the UNet call that met it. `landings`: of the device.
absl::StatusOr<at::Tensor> Denoise(const std::vector<BatchFrame>& frames, const DenoiseOptions& options,
                                   sdxl::UNet& unet, sdxl::Scheduler& scheduler, identity::DrawSource& draws,
                                   identity::Pass* pass, device::Landings& landings, const AfterStep& after_step);

// Whether guidance needs the unconditional half.
inline bool UsesGuidance(double guidance_scale) { return guidance_scale > 1.0; }

// "panel 3", or "hidden identity frame 0": counted as in requests and draws files, from 0.
std::string FrameText(const Frame& frame);

}  // namespace storyfarm::render

#endif  // STORYFARM_PIPELINE_RENDER_DENOISE_H_
