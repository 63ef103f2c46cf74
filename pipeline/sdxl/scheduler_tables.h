// Noise schedules and timesteps, in the number formats in which diffusers 0.42.1 computes them. Internal to the
// schedulers.
#ifndef STORYFARM_PIPELINE_SDXL_SCHEDULER_TABLES_H_
#define STORYFARM_PIPELINE_SDXL_SCHEDULER_TABLES_H_

#include <vector>

#include "pipeline/sdxl/scheduler_options.h"

namespace storyfarm::sdxl {

// prod(1 - beta) up to each training timestep, float32. With `keep_last_positive`, the zero that a zero-SNR schedule
// ends in is 2^-24, so that no sigma is infinite (Euler and DPM++, not DDIM).
std::vector<float> AlphasCumprod(const SchedulerOptions& options, bool keep_last_positive);

// sqrt((1 - a) / a) of each, float32.
std::vector<float> SigmasOf(const std::vector<float>& alphas_cumprod);

// Timesteps of DDIM, whole numbers.
std::vector<double> DdimTimesteps(const SchedulerOptions& options, int steps);

// Timesteps of Euler and Euler ancestral before any replacement by Karras sigmas; `linspace` gives fractions.
std::vector<double> EulerTimesteps(const SchedulerOptions& options, int steps);

// Timesteps and sigmas of one run. sigmas has an entry more than timesteps: where the last step ends.
struct Schedule {
  std::vector<double> timesteps;
  std::vector<float> sigmas;
};
Schedule EulerSchedule(const SchedulerOptions& options, int steps);
Schedule DpmppSchedule(const SchedulerOptions& options, int steps);

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_SCHEDULER_TABLES_H_
