// The options of one scheduler, resolved from a model's config, the sampler's class and a story's overrides. Internal
// to the schedulers.
#ifndef STORYFARM_PIPELINE_SDXL_SCHEDULER_OPTIONS_H_
#define STORYFARM_PIPELINE_SDXL_SCHEDULER_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/sdxl/scheduler.h"

namespace storyfarm::sdxl {

enum class BetaSchedule { kLinear, kScaledLinear, kSquaredCosCapV2 };
enum class PredictionType { kEpsilon, kVPrediction, kSample };
enum class TimestepSpacing { kLeading, kLinspace, kTrailing };
enum class SigmaSchedule { kFromTimesteps, kKarras, kExponential };

// Defaults are those that all four classes of diffusers 0.42.1 share; where they differ, ResolveSchedulerOptions sets
// them.
struct SchedulerOptions {
  int64_t num_train_timesteps = 1000;
  double beta_start = 0.0001;
  double beta_end = 0.02;
  BetaSchedule beta_schedule = BetaSchedule::kLinear;
  std::vector<float> trained_betas;  // empty: from the schedule
  bool rescale_betas_zero_snr = false;
  PredictionType prediction_type = PredictionType::kEpsilon;
  TimestepSpacing timestep_spacing = TimestepSpacing::kLinspace;
  int64_t steps_offset = 0;

  // DDIM
  bool clip_sample = false;
  double clip_sample_range = 1.0;
  bool set_alpha_to_one = false;

  // Euler and DPM++
  SigmaSchedule sigma_schedule = SigmaSchedule::kFromTimesteps;
  bool log_linear_interpolation = false;  // of sigmas, in place of linear: Euler
  bool final_sigma_zero = true;           // false: the smallest sigma of the training schedule
  std::optional<double> sigma_min;        // bounds of Karras and exponential sigmas: Euler
  std::optional<double> sigma_max;

  // DPM++
  int64_t solver_order = 2;
  bool heun = false;  // second order by Heun's rule, in place of the midpoint's
  bool lower_order_final = true;
  bool euler_at_final = false;
};

// `overrides`: a JSON object as text; empty: none. Errors as Scheduler::Create says.
absl::StatusOr<SchedulerOptions> ResolveSchedulerOptions(Sampler sampler, const model::SchedulerConfig& config,
                                                         const std::string& overrides);

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_SCHEDULER_OPTIONS_H_
