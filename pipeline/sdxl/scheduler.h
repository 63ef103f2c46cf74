// Schedulers of the denoising loop: DDIM, Euler, Euler ancestral and DPM++ 2M with Karras sigmas.
//
//   model/config.h SchedulerConfig + overrides --Create(steps)--> Scheduler
//     latents = noise * init_noise_sigma()
//     for s in 0..steps:  input = ScaleInput(latents, s);  output = unet(input, timesteps()[s])
//                         latents = Step(output, s, latents, step noise)
//
// The numbers follow diffusers 0.42.1 (DDIMScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler,
// DPMSolverMultistepScheduler): tables are computed on the CPU in float32 or float64 where diffusers does, so that
// every coefficient agrees to the last bits. A scheduler of another class than the config's takes what diffusers'
// `from_config` would: the keys that the JSON names and its own class knows; every other key has its own class's
// default.
#ifndef STORYFARM_PIPELINE_SDXL_SCHEDULER_H_
#define STORYFARM_PIPELINE_SDXL_SCHEDULER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace at {
class Tensor;
}
namespace storyfarm::model {
struct SchedulerConfig;
}

namespace storyfarm::sdxl {

// Sampling methods, named in stories `ddim`, `euler`, `euler_a`, `dpmpp_2m_karras`.
enum class Sampler { kDdim, kEuler, kEulerAncestral, kDpmpp2mKarras };

// The same name as in stories.
std::string SamplerName(Sampler sampler);

// One pass's scheduler. Not thread-safe: DPM++ 2M remembers the last step's prediction.
class Scheduler {
 public:
  // `overrides`: a JSON object whose keys replace the config's; empty: none. `steps`: UNet calls, 1 to the config's
  // num_train_timesteps.
  //
  // `ddim` takes false for `clip_sample` and `set_alpha_to_one` where neither config nor overrides name them
  // (diffusers' own defaults clip latents to [-1, 1], which ruins pictures of a latent model). `dpmpp_2m_karras` sets
  // `use_karras_sigmas` true, whatever the config says. INVALID_ARGUMENT names the key and what it may be: unknown
  // overrides (listed with the known keys), values of the wrong type or out of range, and options without an
  // implementation here (thresholding, beta and exponential sigmas, continuous timesteps, algorithms other than
  // dpmsolver++, variance_type, trained_betas of the wrong length).
  static absl::StatusOr<std::unique_ptr<Scheduler>> Create(Sampler sampler, const model::SchedulerConfig& config,
                                                           const std::string& overrides, int steps);
  virtual ~Scheduler() = default;

  // What the UNet is told at each step: `steps` entries, descending, in [0, num_train_timesteps). May be fractional.
  const std::vector<double>& timesteps() const { return timesteps_; }
  int steps() const { return static_cast<int>(timesteps_.size()); }
  // Standard deviation of the initial latents: latents = N(0, 1) * init_noise_sigma().
  double init_noise_sigma() const { return init_noise_sigma_; }
  // Whether Step adds noise of its own: ancestral samplers. Where the step ends at sigma 0 the noise has no weight.
  virtual bool needs_step_noise() const { return false; }

  // The UNet's input of step `step`, of the shape and dtype of `latents`.
  virtual at::Tensor ScaleInput(const at::Tensor& latents, int step) const;

  // Latents after step `step`. `model_output`: after guidance, [B, C, H, W]; `latents`: what ScaleInput was given,
  // float32, the same shape; `step_noise`: N(0, 1), the same shape, where needs_step_noise(); else undefined. Float32
  // on the latents' device. Steps are taken in order from 0.
  virtual at::Tensor Step(const at::Tensor& model_output, int step, const at::Tensor& latents,
                          const at::Tensor& step_noise) = 0;

 protected:
  std::vector<double> timesteps_;
  double init_noise_sigma_ = 1.0;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_SCHEDULER_H_
