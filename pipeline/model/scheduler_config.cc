// scheduler_config.json, whatever class wrote it, and a story's overrides of it.
#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/model/config.h"
#include "pipeline/model/json_reader.h"

namespace storyfarm::model {
namespace {

constexpr int64_t kMaxTrainTimesteps = 1'000'000;  // published models have 1000
constexpr size_t kMaxTrainedBetas = 1'000'000;

// Calls visit(key, member) for each key. The one list of them: reading, overriding and naming all go over it.
template <typename Visit>
void ForEachKey(SchedulerConfig& c, Visit visit) {
  visit("num_train_timesteps", c.num_train_timesteps);
  visit("beta_start", c.beta_start);
  visit("beta_end", c.beta_end);
  visit("beta_schedule", c.beta_schedule);
  visit("trained_betas", c.trained_betas);
  visit("prediction_type", c.prediction_type);
  visit("timestep_spacing", c.timestep_spacing);
  visit("steps_offset", c.steps_offset);
  visit("rescale_betas_zero_snr", c.rescale_betas_zero_snr);
  visit("clip_sample", c.clip_sample);
  visit("clip_sample_range", c.clip_sample_range);
  visit("set_alpha_to_one", c.set_alpha_to_one);
  visit("thresholding", c.thresholding);
  visit("dynamic_thresholding_ratio", c.dynamic_thresholding_ratio);
  visit("sample_max_value", c.sample_max_value);
  visit("skip_prk_steps", c.skip_prk_steps);
  visit("interpolation_type", c.interpolation_type);
  visit("use_karras_sigmas", c.use_karras_sigmas);
  visit("use_exponential_sigmas", c.use_exponential_sigmas);
  visit("use_beta_sigmas", c.use_beta_sigmas);
  visit("sigma_min", c.sigma_min);
  visit("sigma_max", c.sigma_max);
  visit("timestep_type", c.timestep_type);
  visit("final_sigmas_type", c.final_sigmas_type);
  visit("solver_order", c.solver_order);
  visit("algorithm_type", c.algorithm_type);
  visit("solver_type", c.solver_type);
  visit("lower_order_final", c.lower_order_final);
  visit("euler_at_final", c.euler_at_final);
  visit("use_lu_lambdas", c.use_lu_lambdas);
  visit("use_flow_sigmas", c.use_flow_sigmas);
  visit("flow_shift", c.flow_shift);
  visit("lambda_min_clipped", c.lambda_min_clipped);
  visit("variance_type", c.variance_type);
  visit("use_dynamic_shifting", c.use_dynamic_shifting);
  visit("time_shift_type", c.time_shift_type);
}

struct ReadInto {
  JsonReader& reader;

  void operator()(const char* key, std::optional<bool>& member) const { member = reader.Bool(key); }
  void operator()(const char* key, std::optional<std::string>& member) const { member = reader.String(key); }
  void operator()(const char* key, std::optional<int64_t>& member) const {
    member = reader.Int(key, -kMaxTrainTimesteps, kMaxTrainTimesteps);
  }
  void operator()(const char* key, std::optional<double>& member) const {
    const nlohmann::json* value = reader.Find(key);
    // The one key whose default in Python's JSON is no number.
    if (value != nullptr && std::string_view(key) == "lambda_min_clipped" && *value == "-Infinity") {
      member = -std::numeric_limits<double>::infinity();
      return;
    }
    member = reader.Number(key);
  }
  void operator()(const char* key, std::optional<std::vector<double>>& member) const {
    member = reader.Numbers(key);
    if (member.has_value() && (member->empty() || member->size() > kMaxTrainedBetas)) {
      reader.Invalid(key, absl::StrCat("has ", member->size(), " entries"));
    }
  }
};

}  // namespace

absl::StatusOr<SchedulerConfig> ParseSchedulerConfig(std::string_view json, std::string_view file) {
  absl::StatusOr<nlohmann::json> object = ParseJsonObject(json, file);
  if (!object.ok()) return object.status();
  JsonReader reader(*object, file);
  SchedulerConfig config;
  config.class_name = reader.String("_class_name").value_or("");
  ForEachKey(config, ReadInto{reader});
  if (config.num_train_timesteps.has_value() && *config.num_train_timesteps < 1) {
    reader.Invalid("num_train_timesteps", "must be at least 1");
  }
  if (!reader.ok()) return reader.status();
  return config;
}

absl::StatusOr<SchedulerConfig> SchedulerConfig::MergeOverrides(std::string_view json) const {
  SchedulerConfig merged = *this;
  if (json.empty()) return merged;
  constexpr char kFile[] = "scheduler_config (the story's)";
  absl::StatusOr<nlohmann::json> object = ParseJsonObject(json, kFile);
  if (!object.ok()) return object.status();
  JsonReader reader(*object, kFile);
  std::vector<std::string> known;
  ForEachKey(merged, [&](const char* key, auto& member) {
    known.emplace_back(key);
    if (object->contains(key)) ReadInto{reader}(key, member);
  });
  for (const auto& [key, value] : object->items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(kFile, ": there is no key ", key, ". Known keys: ", absl::StrJoin(known, ", "), "."));
    }
  }
  if (merged.num_train_timesteps.has_value() && *merged.num_train_timesteps < 1) {
    reader.Invalid("num_train_timesteps", "must be at least 1");
  }
  if (!reader.ok()) return reader.status();
  return merged;
}

}  // namespace storyfarm::model
