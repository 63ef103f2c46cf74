#include "pipeline/sdxl/scheduler.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pipeline/model/config.h"
#include "pipeline/sdxl/scheduler_options.h"
#include "pipeline/sdxl/scheduler_tables.h"

namespace storyfarm::sdxl {
namespace {

// Song et al. 2021, "Denoising Diffusion Implicit Models", equation 12 with eta 0.
class Ddim final : public Scheduler {
 public:
  Ddim(const SchedulerOptions& options, int steps) : options_(options) {
    timesteps_ = DdimTimesteps(options, steps);
    const std::vector<float> alphas_cumprod = AlphasCumprod(options, false);
    const float final_alpha = options.set_alpha_to_one ? 1.0f : alphas_cumprod[0];
    const int64_t stride = options.num_train_timesteps / steps;
    for (const double timestep : timesteps_) {
      const int64_t t = static_cast<int64_t>(timestep);
      alphas_.push_back(alphas_cumprod[t]);
      next_alphas_.push_back(t - stride >= 0 ? alphas_cumprod[t - stride] : final_alpha);
    }
  }

  at::Tensor Step(const at::Tensor& model_output, int step, const at::Tensor& latents, const at::Tensor&) override {
    const at::Tensor output = model_output.to(at::kFloat);
    const float signal = std::sqrt(alphas_[step]), noise = std::sqrt(1 - alphas_[step]);
    at::Tensor clean, epsilon;
    switch (options_.prediction_type) {
      case PredictionType::kEpsilon:
        clean = (latents - noise * output) / signal;
        epsilon = output;
        break;
      case PredictionType::kSample:
        clean = output;
        epsilon = (latents - signal * output) / noise;
        break;
      case PredictionType::kVPrediction:
        clean = signal * latents - noise * output;
        epsilon = signal * output + noise * latents;
        break;
    }
    if (options_.clip_sample) clean = clean.clamp(-options_.clip_sample_range, options_.clip_sample_range);
    return std::sqrt(next_alphas_[step]) * clean + std::sqrt(1 - next_alphas_[step]) * epsilon;
  }

 private:
  SchedulerOptions options_;
  std::vector<float> alphas_, next_alphas_;  // of each step, and of where it goes
};

// What Euler and Euler ancestral share: latents hold x0 + sigma epsilon, and the UNet sees them scaled to unit
// variance.
class SigmaScheduler : public Scheduler {
 public:
  at::Tensor ScaleInput(const at::Tensor& latents, int step) const override {
    return latents / std::sqrt(sigmas_[step] * sigmas_[step] + 1);
  }

 protected:
  SigmaScheduler(PredictionType prediction_type, TimestepSpacing spacing, Schedule schedule)
      : sigmas_(std::move(schedule.sigmas)), prediction_type_(prediction_type) {
    timesteps_ = std::move(schedule.timesteps);
    const float largest = *std::max_element(sigmas_.begin(), sigmas_.end());
    init_noise_sigma_ = spacing == TimestepSpacing::kLeading ? std::sqrt(largest * largest + 1) : largest;
  }

  // The derivative of the latents with respect to sigma.
  at::Tensor Derivative(const at::Tensor& model_output, int step, const at::Tensor& latents) const {
    const at::Tensor output = model_output.to(at::kFloat);
    const float sigma = sigmas_[step];
    at::Tensor clean;
    switch (prediction_type_) {
      case PredictionType::kEpsilon:
        clean = latents - sigma * output;
        break;
      case PredictionType::kSample:
        clean = output;
        break;
      case PredictionType::kVPrediction:
        clean = output * (-sigma / std::sqrt(sigma * sigma + 1)) + latents / (sigma * sigma + 1);
        break;
    }
    return (latents - clean) / sigma;
  }

  std::vector<float> sigmas_;

 private:
  PredictionType prediction_type_;
};

// Karras et al. 2022, algorithm 2 without churn.
class Euler final : public SigmaScheduler {
 public:
  Euler(const SchedulerOptions& options, int steps)
      : SigmaScheduler(options.prediction_type, options.timestep_spacing, EulerSchedule(options, steps)) {}

  at::Tensor Step(const at::Tensor& model_output, int step, const at::Tensor& latents, const at::Tensor&) override {
    return latents + Derivative(model_output, step, latents) * (sigmas_[step + 1] - sigmas_[step]);
  }
};

// k-diffusion's sample_euler_ancestral.
class EulerAncestral final : public SigmaScheduler {
 public:
  EulerAncestral(const SchedulerOptions& options, int steps)
      : SigmaScheduler(options.prediction_type, options.timestep_spacing, EulerSchedule(options, steps)) {}

  bool needs_step_noise() const override { return true; }

  at::Tensor Step(const at::Tensor& model_output, int step, const at::Tensor& latents,
                  const at::Tensor& step_noise) override {
    const float from = sigmas_[step], to = sigmas_[step + 1];
    const float up = std::sqrt(to * to * (from * from - to * to) / (from * from));
    const float down = std::sqrt(to * to - up * up);
    return latents + Derivative(model_output, step, latents) * (down - from) + step_noise * up;
  }
};

// Lu et al. 2022, "DPM-Solver++", algorithm 2 (second order, multistep, data prediction).
class Dpmpp2m final : public Scheduler {
 public:
  Dpmpp2m(const SchedulerOptions& options, int steps) : options_(options) {
    Schedule schedule = DpmppSchedule(options, steps);
    timesteps_ = std::move(schedule.timesteps);
    for (const float sigma : schedule.sigmas) {
      const float alpha = 1 / std::sqrt(sigma * sigma + 1);
      points_.push_back({alpha, sigma * alpha, std::log(alpha) - std::log(sigma * alpha)});
    }
  }

  at::Tensor Step(const at::Tensor& model_output, int step, const at::Tensor& latents, const at::Tensor&) override {
    const Point &from = points_[step], &to = points_[step + 1];
    const at::Tensor clean = Clean(model_output.to(at::kFloat), from, latents);
    const float h = to.lambda - from.lambda;
    const float decay = std::exp(-h) - 1;
    at::Tensor next = (to.sigma / from.sigma) * latents - (to.alpha * decay) * clean;
    // With final_sigmas_type "sigma_min" the last step has no length.
    if (step > 0 && h != 0 && options_.solver_order == 2 && !FirstOrderAtEnd(step)) {
      const float ratio = (from.lambda - points_[step - 1].lambda) / h;
      const at::Tensor slope = (1 / ratio) * (clean - last_clean_);
      next = options_.heun ? next + (to.alpha * (decay / h + 1)) * slope : next - (0.5f * to.alpha * decay) * slope;
    }
    last_clean_ = clean;
    return next;
  }

 private:
  struct Point {
    float alpha, sigma, lambda;  // lambda: half the logarithm of the signal-to-noise ratio
  };

  at::Tensor Clean(const at::Tensor& output, const Point& at, const at::Tensor& latents) const {
    switch (options_.prediction_type) {
      case PredictionType::kEpsilon:
        return (latents - at.sigma * output) / at.alpha;
      case PredictionType::kSample:
        return output;
      case PredictionType::kVPrediction:
        break;
    }
    return at.alpha * latents - at.sigma * output;
  }

  bool FirstOrderAtEnd(int step) const {
    constexpr int kFewSteps = 15;  // diffusers' bound for lower_order_final
    return step == steps() - 1 && (options_.euler_at_final || options_.final_sigma_zero ||
                                   (options_.lower_order_final && steps() < kFewSteps));
  }

  SchedulerOptions options_;
  std::vector<Point> points_;  // of each step, and of where the last one ends
  at::Tensor last_clean_;
};

absl::Status CheckDdim(const SchedulerOptions& options, int steps) {
  const std::vector<double> timesteps = DdimTimesteps(options, steps);
  if (timesteps.front() >= static_cast<double>(options.num_train_timesteps)) {
    return absl::InvalidArgumentError(
        absl::StrCat("scheduler option `steps_offset` is ", options.steps_offset, ", which with ", steps,
                     " steps starts at timestep ", timesteps.front(), "; the model knows timesteps below ",
                     options.num_train_timesteps, ": take fewer steps or a smaller offset"));
  }
  const float alpha = AlphasCumprod(options, false)[static_cast<size_t>(timesteps.front())];
  if (options.prediction_type == PredictionType::kEpsilon && alpha <= 0) {
    return absl::InvalidArgumentError(
        "scheduler option `rescale_betas_zero_snr` makes the first step all noise, from which `ddim` can't predict "
        "with "
        "`prediction_type` \"epsilon\": the model must be a \"v_prediction\" one, or the option false");
  }
  return absl::OkStatus();
}

}  // namespace

std::string SamplerName(Sampler sampler) {
  switch (sampler) {
    case Sampler::kDdim:
      return "ddim";
    case Sampler::kEuler:
      return "euler";
    case Sampler::kEulerAncestral:
      return "euler_a";
    case Sampler::kDpmpp2mKarras:
      return "dpmpp_2m_karras";
  }
  return "unknown";
}

at::Tensor Scheduler::ScaleInput(const at::Tensor& latents, int) const { return latents; }

absl::StatusOr<std::unique_ptr<Scheduler>> Scheduler::Create(Sampler sampler, const model::SchedulerConfig& config,
                                                             const std::string& overrides, int steps) {
  absl::StatusOr<SchedulerOptions> options = ResolveSchedulerOptions(sampler, config, overrides);
  if (!options.ok()) return options.status();
  if (steps < 1 || steps > options->num_train_timesteps) {
    return absl::InvalidArgumentError(
        absl::StrCat("steps is ", steps, "; the model's schedule allows 1 to ", options->num_train_timesteps));
  }
  switch (sampler) {
    case Sampler::kDdim:
      if (const absl::Status status = CheckDdim(*options, steps); !status.ok()) return status;
      return std::make_unique<Ddim>(*options, steps);
    case Sampler::kEuler:
      return std::make_unique<Euler>(*options, steps);
    case Sampler::kEulerAncestral:
      return std::make_unique<EulerAncestral>(*options, steps);
    case Sampler::kDpmpp2mKarras:
      return std::make_unique<Dpmpp2m>(*options, steps);
  }
  return absl::InternalError("no such sampler");
}

}  // namespace storyfarm::sdxl
