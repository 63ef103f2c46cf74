#include "pipeline/sdxl/scheduler_tables.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace storyfarm::sdxl {
namespace {

constexpr double kKarrasRho = 7.0;  // Karras et al. 2022, section 3

std::vector<float> ToVector(const at::Tensor& tensor) {
  const at::Tensor contiguous = tensor.contiguous();
  // Not const_data_ptr<float>(): compilers name that template differently, and a linker may miss libtorch's.
  const auto* first = static_cast<const float*>(contiguous.const_data_ptr());
  return {first, first + contiguous.numel()};
}

// Square roots are the standard library's, rounded as IEEE 754 says whatever the processor: torch's own of a tensor are
// off by a bit on some, and where noise ends at zero SNR a bit of a sigma shows in the latents.
at::Tensor SquareRoot(const at::Tensor& tensor) {
  std::vector<float> values = ToVector(tensor);
  for (float& value : values) value = std::sqrt(value);
  return at::tensor(values);
}

float SigmaOf(float alpha_cumprod) { return std::sqrt((1 - alpha_cumprod) / alpha_cumprod); }

at::Tensor Betas(const SchedulerOptions& options) {
  const int64_t count = options.num_train_timesteps;
  if (!options.trained_betas.empty()) return at::tensor(options.trained_betas);
  switch (options.beta_schedule) {
    case BetaSchedule::kLinear:
      return at::linspace(options.beta_start, options.beta_end, count, at::kFloat);
    case BetaSchedule::kScaledLinear:
      return at::linspace(std::sqrt(options.beta_start), std::sqrt(options.beta_end), count, at::kFloat).square();
    case BetaSchedule::kSquaredCosCapV2:
      break;
  }
  const auto alpha_bar = [](double t) {  // Nichol and Dhariwal 2021, equation 17
    const double cosine = std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2);
    return cosine * cosine;
  };
  std::vector<float> betas;
  for (int64_t i = 0; i < count; ++i) {
    const double from = static_cast<double>(i) / count, to = static_cast<double>(i + 1) / count;
    betas.push_back(static_cast<float>(std::min(1 - alpha_bar(to) / alpha_bar(from), 0.999)));
  }
  return at::tensor(betas);
}

// Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1.
at::Tensor RescaleToZeroTerminalSnr(const at::Tensor& betas) {
  at::Tensor root = SquareRoot(at::cumprod(1 - betas, 0));
  const at::Tensor first = root[0].clone(), last = root[-1].clone();
  root = (root - last) * (first / (first - last));
  const at::Tensor alphas_bar = root.square();
  const at::Tensor alphas = alphas_bar.slice(0, 1) / alphas_bar.slice(0, 0, -1);
  return 1 - at::cat({alphas_bar.slice(0, 0, 1), alphas});
}

// numpy.linspace.
std::vector<double> Linspace(double start, double stop, int count) {
  std::vector<double> values;
  const double step = count > 1 ? (stop - start) / (count - 1) : 0;
  for (int i = 0; i < count; ++i) values.push_back(i * step + start);
  if (count > 1) values.back() = stop;
  return values;
}

// numpy.interp over xp = 0, 1, 2, ...
double Interpolate(double x, const std::vector<float>& values) {
  if (x <= 0) return values.front();
  if (x >= static_cast<double>(values.size() - 1)) return values.back();
  const size_t low = static_cast<size_t>(x);
  const double slope = static_cast<double>(values[low + 1]) - static_cast<double>(values[low]);
  return slope * (x - static_cast<double>(low)) + values[low];
}

// round(arange(start, 0, -num_train_timesteps / steps)) - 1. For 62 counts up to 1000 (61, 103, ...) numpy's rounding
// adds an entry for timestep -1; it is left out, so that steps are what was asked for.
std::vector<double> Trailing(double start, int64_t num_train_timesteps, int steps) {
  const double ratio = static_cast<double>(num_train_timesteps) / steps;
  const double delta = (start - ratio) - start;
  std::vector<double> timesteps;
  for (int i = 0; i < steps && start + i * delta > 0; ++i) timesteps.push_back(std::nearbyint(start + i * delta) - 1);
  return timesteps;
}

std::vector<double> Leading(int64_t ratio, int64_t offset, int from, int to) {
  std::vector<double> timesteps;
  for (int i = from; i > to; --i) timesteps.push_back(static_cast<double>((i - 1) * ratio + offset));
  return timesteps;
}

std::vector<float> LogOf(const std::vector<float>& sigmas) {
  std::vector<float> logs;
  for (const float sigma : sigmas) logs.push_back(std::log(sigma));
  return logs;
}

// The timestep of the training schedule, with its fraction, whose sigma this is.
double SigmaToTimestep(double sigma, const std::vector<float>& log_sigmas) {
  const double log_sigma = std::log(std::max(sigma, 1e-10));
  const auto above = std::upper_bound(log_sigmas.begin(), log_sigmas.end(), log_sigma,
                                      [](double value, float entry) { return value < entry; });
  const int64_t last_low = static_cast<int64_t>(log_sigmas.size()) - 2;
  const int64_t low = std::clamp<int64_t>(above - log_sigmas.begin() - 1, 0, std::max<int64_t>(last_low, 0));
  if (last_low < 0) return 0;
  const float step = log_sigmas[low] - log_sigmas[low + 1];
  const double weight = std::clamp((log_sigmas[low] - log_sigma) / step, 0.0, 1.0);
  return (1 - weight) * static_cast<double>(low) + weight * static_cast<double>(low + 1);
}

// Karras et al. 2022, equation 5, or evenly spaced in the logarithm.
std::vector<double> ReplacedSigmas(const SchedulerOptions& options, double first, double last, int steps) {
  const double sigma_max = options.sigma_max.value_or(first), sigma_min = options.sigma_min.value_or(last);
  std::vector<double> sigmas;
  if (options.sigma_schedule == SigmaSchedule::kExponential) {
    for (const double log_sigma : Linspace(std::log(sigma_max), std::log(sigma_min), steps)) {
      sigmas.push_back(std::exp(log_sigma));
    }
    return sigmas;
  }
  const double high = std::pow(sigma_max, 1 / kKarrasRho), low = std::pow(sigma_min, 1 / kKarrasRho);
  for (const double ramp : Linspace(0, 1, steps)) sigmas.push_back(std::pow(high + ramp * (low - high), kKarrasRho));
  return sigmas;
}

Schedule Finish(const SchedulerOptions& options, const std::vector<float>& alphas_cumprod,
                std::vector<double> timesteps, const std::vector<double>& sigmas) {
  Schedule schedule;
  schedule.timesteps = std::move(timesteps);
  for (const double sigma : sigmas) schedule.sigmas.push_back(static_cast<float>(sigma));
  schedule.sigmas.push_back(options.final_sigma_zero ? 0.0f : SigmaOf(alphas_cumprod[0]));
  return schedule;
}

}  // namespace

std::vector<float> AlphasCumprod(const SchedulerOptions& options, bool keep_last_positive) {
  at::Tensor betas = Betas(options);
  if (options.rescale_betas_zero_snr) betas = RescaleToZeroTerminalSnr(betas);
  std::vector<float> alphas_cumprod = ToVector(at::cumprod(1 - betas, 0));
  if (options.rescale_betas_zero_snr && keep_last_positive) alphas_cumprod.back() = std::ldexp(1.0f, -24);
  return alphas_cumprod;
}

std::vector<float> SigmasOf(const std::vector<float>& alphas_cumprod) {
  std::vector<float> sigmas;
  for (const float alpha_cumprod : alphas_cumprod) sigmas.push_back(SigmaOf(alpha_cumprod));
  return sigmas;
}

std::vector<double> DdimTimesteps(const SchedulerOptions& options, int steps) {
  const int64_t count = options.num_train_timesteps;
  switch (options.timestep_spacing) {
    case TimestepSpacing::kLinspace: {
      std::vector<double> timesteps = Linspace(0, static_cast<double>(count - 1), steps);
      for (double& timestep : timesteps) timestep = std::nearbyint(timestep);
      std::reverse(timesteps.begin(), timesteps.end());
      return timesteps;
    }
    case TimestepSpacing::kLeading:
      return Leading(count / steps, options.steps_offset, steps, 0);
    case TimestepSpacing::kTrailing:
      break;
  }
  return Trailing(static_cast<double>(count), count, steps);
}

std::vector<double> EulerTimesteps(const SchedulerOptions& options, int steps) {
  if (options.timestep_spacing != TimestepSpacing::kLinspace) return DdimTimesteps(options, steps);
  std::vector<double> timesteps = Linspace(0, static_cast<double>(options.num_train_timesteps - 1), steps);
  for (double& timestep : timesteps) timestep = static_cast<float>(timestep);
  std::reverse(timesteps.begin(), timesteps.end());
  return timesteps;
}

Schedule EulerSchedule(const SchedulerOptions& options, int steps) {
  const std::vector<float> alphas_cumprod = AlphasCumprod(options, true);
  const std::vector<float> trained = SigmasOf(alphas_cumprod);
  const std::vector<float> log_sigmas = LogOf(trained);
  std::vector<double> timesteps = EulerTimesteps(options, steps);
  std::vector<double> sigmas;
  if (options.log_linear_interpolation) {
    // steps + 1 values, of which the last is where the loop then ends: final_sigmas_type comes after it.
    for (const float sigma : ToVector(at::linspace(log_sigmas.back(), log_sigmas.front(), steps + 1).exp())) {
      sigmas.push_back(sigma);
    }
  } else {
    for (const double timestep : timesteps) sigmas.push_back(Interpolate(timestep, trained));
  }
  if (options.sigma_schedule != SigmaSchedule::kFromTimesteps) {
    sigmas = ReplacedSigmas(options, sigmas.front(), sigmas.back(), steps);
    for (int i = 0; i < steps; ++i) timesteps[i] = static_cast<float>(SigmaToTimestep(sigmas[i], log_sigmas));
  }
  return Finish(options, alphas_cumprod, std::move(timesteps), sigmas);
}

Schedule DpmppSchedule(const SchedulerOptions& options, int steps) {
  const std::vector<float> alphas_cumprod = AlphasCumprod(options, true);
  const std::vector<float> trained = SigmasOf(alphas_cumprod);
  const std::vector<float> log_sigmas = LogOf(trained);
  const std::vector<double> sigmas = ReplacedSigmas(options, trained.back(), trained.front(), steps);
  std::vector<double> timesteps;
  for (const double sigma : sigmas) {
    const double timestep = SigmaToTimestep(sigma, log_sigmas);
    // Whole numbers: rounded, but cut for the cosine schedule.
    timesteps.push_back(options.beta_schedule == BetaSchedule::kSquaredCosCapV2 ? std::trunc(timestep)
                                                                                : std::nearbyint(timestep));
  }
  return Finish(options, alphas_cumprod, std::move(timesteps), sigmas);
}

}  // namespace storyfarm::sdxl
