#include "pipeline/sdxl/scheduler_options.h"

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/model/config.h"

namespace storyfarm::sdxl {
namespace {

// More timesteps than any model was trained with; bounds the tables.
constexpr int64_t kMaxTrainTimesteps = 100'000;
constexpr double kMaxSigma = 1e6;  // far above any model's

// Constructor arguments of the four classes in diffusers 0.42.1: a key that a class does not have never reaches it.
const std::set<std::string>& KnownKeys(Sampler sampler) {
  static const std::set<std::string> ddim = {"num_train_timesteps", "beta_start",       "beta_end",
                                             "beta_schedule",       "trained_betas",    "clip_sample",
                                             "set_alpha_to_one",    "steps_offset",     "prediction_type",
                                             "thresholding",        "timestep_spacing", "dynamic_thresholding_ratio",
                                             "clip_sample_range",   "sample_max_value", "rescale_betas_zero_snr"};
  static const std::set<std::string> euler = {
      "num_train_timesteps", "beta_start",      "beta_end",         "beta_schedule",
      "trained_betas",       "prediction_type", "timestep_spacing", "interpolation_type",
      "use_karras_sigmas",   "use_beta_sigmas", "sigma_min",        "use_exponential_sigmas",
      "sigma_max",           "timestep_type",   "steps_offset",     "rescale_betas_zero_snr",
      "final_sigmas_type"};
  static const std::set<std::string> ancestral = {"num_train_timesteps", "beta_start",    "beta_end",
                                                  "beta_schedule",       "trained_betas", "prediction_type",
                                                  "timestep_spacing",    "steps_offset",  "rescale_betas_zero_snr"};
  static const std::set<std::string> dpmpp = {"num_train_timesteps",    "beta_start",      "beta_end",
                                              "beta_schedule",          "trained_betas",   "solver_order",
                                              "prediction_type",        "thresholding",    "sample_max_value",
                                              "algorithm_type",         "solver_type",     "dynamic_thresholding_ratio",
                                              "lower_order_final",      "euler_at_final",  "use_karras_sigmas",
                                              "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas",
                                              "use_flow_sigmas",        "flow_shift",      "final_sigmas_type",
                                              "lambda_min_clipped",     "variance_type",   "timestep_spacing",
                                              "steps_offset",           "time_shift_type", "use_dynamic_shifting",
                                              "rescale_betas_zero_snr"};
  switch (sampler) {
    case Sampler::kDdim:
      return ddim;
    case Sampler::kEuler:
      return euler;
    case Sampler::kEulerAncestral:
      return ancestral;
    case Sampler::kDpmpp2mKarras:
      return dpmpp;
  }
  return ddim;
}

// Takes options over from a config, each checked; the first thing wrong stays.
class Reader {
 public:
  explicit Reader(Sampler sampler) : sampler_(SamplerName(sampler)) {}

  template <typename T>
  void Take(const std::optional<T>& given, T* value) {
    if (given) *value = *given;
  }

  void Int(const char* key, const std::optional<int64_t>& given, int64_t low, int64_t high, int64_t* value) {
    if (!given) return;
    if (*given < low || *given > high) Wrong(key, absl::StrCat(*given), absl::StrCat("from ", low, " to ", high));
    *value = *given;
  }

  // Above 0, up to `high`.
  void Positive(const char* key, const std::optional<double>& given, double high, double* value) {
    if (!given) return;
    if (!(*given > 0 && *given <= high)) Wrong(key, absl::StrCat(*given), absl::StrCat("above 0, up to ", high));
    *value = *given;
  }

  template <typename Enum>
  void Choice(const char* key, const std::optional<std::string>& given,
              std::initializer_list<std::pair<const char*, Enum>> choices, Enum* value) {
    if (!given) return;
    std::vector<std::string> names;
    for (const auto& [name, choice] : choices) {
      if (*given == name) {
        *value = choice;
        return;
      }
      names.push_back(absl::StrCat("\"", name, "\""));
    }
    Wrong(key, absl::StrCat("\"", *given, "\""), absl::StrJoin(names, " or "));
  }

  // Options that change results and that no code here carries out.
  void Refuse(const char* key, const std::optional<bool>& given) {
    if (given.value_or(false)) Wrong(key, "true", "false: it is not supported");
  }

  void Wrong(const char* key, const std::string& value, const std::string& allowed) {
    if (!status_.ok()) return;
    status_ = absl::InvalidArgumentError(
        absl::StrCat("scheduler option `", key, "` is ", value, "; for `", sampler_, "` it must be ", allowed));
  }

  const absl::Status& status() const { return status_; }

 private:
  std::string sampler_;
  absl::Status status_;
};

void ReadBetas(Reader& reader, const model::SchedulerConfig& config, SchedulerOptions& options) {
  reader.Int("num_train_timesteps", config.num_train_timesteps, 1, kMaxTrainTimesteps, &options.num_train_timesteps);
  reader.Positive("beta_start", config.beta_start, 1, &options.beta_start);
  reader.Positive("beta_end", config.beta_end, 1, &options.beta_end);
  reader.Choice("beta_schedule", config.beta_schedule,
                {{"linear", BetaSchedule::kLinear},
                 {"scaled_linear", BetaSchedule::kScaledLinear},
                 {"squaredcos_cap_v2", BetaSchedule::kSquaredCosCapV2}},
                &options.beta_schedule);
  reader.Take(config.rescale_betas_zero_snr, &options.rescale_betas_zero_snr);
  if (!config.trained_betas) return;
  if (static_cast<int64_t>(config.trained_betas->size()) != options.num_train_timesteps) {
    return reader.Wrong("trained_betas", absl::StrCat("a list of ", config.trained_betas->size()),
                        absl::StrCat("a list of num_train_timesteps (", options.num_train_timesteps, ") numbers"));
  }
  for (const double beta : *config.trained_betas) {
    if (!(beta > 0 && beta < 1)) reader.Wrong("trained_betas", absl::StrCat("with ", beta), "between 0 and 1");
    options.trained_betas.push_back(static_cast<float>(beta));
  }
}

void ReadSigmas(Reader& reader, Sampler sampler, const model::SchedulerConfig& config, SchedulerOptions& options) {
  const bool karras = sampler == Sampler::kDpmpp2mKarras || config.use_karras_sigmas.value_or(false);
  const bool exponential = config.use_exponential_sigmas.value_or(false);
  reader.Refuse("use_beta_sigmas", config.use_beta_sigmas);
  if (karras && exponential) reader.Wrong("use_exponential_sigmas", "true", "false where Karras sigmas are used");
  options.sigma_schedule = karras        ? SigmaSchedule::kKarras
                           : exponential ? SigmaSchedule::kExponential
                                         : SigmaSchedule::kFromTimesteps;
  reader.Choice("final_sigmas_type", config.final_sigmas_type, {{"zero", true}, {"sigma_min", false}},
                &options.final_sigma_zero);
  if (sampler != Sampler::kEuler) return;
  reader.Choice("interpolation_type", config.interpolation_type, {{"linear", false}, {"log_linear", true}},
                &options.log_linear_interpolation);
  double bound = 0;
  reader.Positive("sigma_min", config.sigma_min, kMaxSigma, &bound);
  reader.Positive("sigma_max", config.sigma_max, kMaxSigma, &bound);
  options.sigma_min = config.sigma_min;
  options.sigma_max = config.sigma_max;
  bool discrete = true;
  reader.Choice("timestep_type", config.timestep_type, {{"discrete", true}}, &discrete);
}

void ReadSolver(Reader& reader, const model::SchedulerConfig& config, SchedulerOptions& options) {
  reader.Int("solver_order", config.solver_order, 1, 2, &options.solver_order);
  // diffusers reads the solver types of DEIS and UniPC configs as "midpoint", and the algorithm of DEIS as its own.
  reader.Choice("solver_type", config.solver_type,
                {{"midpoint", false}, {"heun", true}, {"logrho", false}, {"bh1", false}, {"bh2", false}},
                &options.heun);
  bool data_prediction = true;
  reader.Choice("algorithm_type", config.algorithm_type, {{"dpmsolver++", true}, {"deis", true}}, &data_prediction);
  reader.Take(config.lower_order_final, &options.lower_order_final);
  reader.Take(config.euler_at_final, &options.euler_at_final);
  reader.Refuse("use_lu_lambdas", config.use_lu_lambdas);
  reader.Refuse("use_flow_sigmas", config.use_flow_sigmas);
  reader.Refuse("use_dynamic_shifting", config.use_dynamic_shifting);
  if (config.variance_type) reader.Wrong("variance_type", *config.variance_type, "left out: it is not supported");
  // lambda_min_clipped, timestep_spacing and steps_offset shape only timesteps that Karras sigmas replace.
}

// A key of another class than the sampler's would be dropped in silence: somebody meant something by it.
absl::Status CheckOverrides(Sampler sampler, const std::string& overrides) {
  if (overrides.empty()) return absl::OkStatus();
  const nlohmann::json chosen = nlohmann::json::parse(overrides, nullptr, /*allow_exceptions=*/false);
  if (!chosen.is_object()) return absl::InvalidArgumentError("`scheduler_config` is not a JSON object");
  const std::set<std::string>& known = KnownKeys(sampler);
  for (const auto& [key, value] : chosen.items()) {
    if (known.contains(key)) continue;
    return absl::InvalidArgumentError(absl::StrCat("`scheduler_config` has `", key, "`, which `", SamplerName(sampler),
                                                   "` does not know; it knows ", absl::StrJoin(known, ", ")));
  }
  if (sampler == Sampler::kDpmpp2mKarras && chosen.value("use_karras_sigmas", nlohmann::json(true)) == false) {
    return absl::InvalidArgumentError(
        "`scheduler_config` turns `use_karras_sigmas` off, which `dpmpp_2m_karras` always has on");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SchedulerOptions> ResolveSchedulerOptions(Sampler sampler, const model::SchedulerConfig& model_config,
                                                         const std::string& overrides) {
  if (const absl::Status status = CheckOverrides(sampler, overrides); !status.ok()) return status;
  const absl::StatusOr<model::SchedulerConfig> config = model_config.MergeOverrides(overrides);
  if (!config.ok()) return config.status();

  SchedulerOptions options;
  if (sampler == Sampler::kDdim) options.timestep_spacing = TimestepSpacing::kLeading;
  Reader reader(sampler);
  ReadBetas(reader, *config, options);
  reader.Choice("prediction_type", config->prediction_type,
                {{"epsilon", PredictionType::kEpsilon},
                 {"v_prediction", PredictionType::kVPrediction},
                 {"sample", PredictionType::kSample}},
                &options.prediction_type);
  if (sampler == Sampler::kEulerAncestral && options.prediction_type == PredictionType::kSample) {
    reader.Wrong("prediction_type", "\"sample\"", "\"epsilon\" or \"v_prediction\"");
  }
  reader.Choice("timestep_spacing", config->timestep_spacing,
                {{"leading", TimestepSpacing::kLeading},
                 {"linspace", TimestepSpacing::kLinspace},
                 {"trailing", TimestepSpacing::kTrailing}},
                &options.timestep_spacing);
  reader.Int("steps_offset", config->steps_offset, 0, options.num_train_timesteps - 1, &options.steps_offset);
  if (sampler == Sampler::kDdim || sampler == Sampler::kDpmpp2mKarras) {
    reader.Refuse("thresholding", config->thresholding);
  }
  if (sampler == Sampler::kDdim) {
    reader.Take(config->clip_sample, &options.clip_sample);
    reader.Positive("clip_sample_range", config->clip_sample_range, kMaxSigma, &options.clip_sample_range);
    reader.Take(config->set_alpha_to_one, &options.set_alpha_to_one);
  }
  if (sampler == Sampler::kEuler || sampler == Sampler::kDpmpp2mKarras) ReadSigmas(reader, sampler, *config, options);
  if (sampler == Sampler::kDpmpp2mKarras) ReadSolver(reader, *config, options);
  if (!reader.status().ok()) return reader.status();
  return options;
}

}  // namespace storyfarm::sdxl
