// Schedulers against recorded runs of diffusers 0.42.1 (tools/golden/schedulers.py), every option of every class.
#include "pipeline/sdxl/scheduler.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "pipeline/model/config.h"
#include "tests/support/golden.h"

namespace storyfarm::sdxl {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing_support::Golden;
using testing_support::Measure;
using testing_support::Parity;

constexpr double kTolerance = 1e-5;  // of the largest value
// Where noise ends at zero SNR the first sigma is 4096, and the last bit of a square root shows in the latents. torch's
// square roots of tensors, which diffusers takes, are not rounded alike on all processors: its own results move by 6e-5.
constexpr double kZeroSnrTolerance = 1e-4;

absl::StatusOr<std::unique_ptr<Scheduler>> Create(Sampler sampler, const std::string& config,
                                                  const std::string& overrides, int steps) {
  const auto parsed = model::ParseSchedulerConfig(config, "scheduler_config.json");
  if (!parsed.ok()) return parsed.status();
  return Scheduler::Create(sampler, *parsed, overrides, steps);
}

const std::map<std::string, Sampler>& Samplers() {
  static const std::map<std::string, Sampler> samplers = {{"ddim", Sampler::kDdim},
                                                          {"euler", Sampler::kEuler},
                                                          {"euler_a", Sampler::kEulerAncestral},
                                                          {"dpmpp_2m_karras", Sampler::kDpmpp2mKarras}};
  return samplers;
}

// What a scheduler makes of all recorded steps.
struct Trace {
  at::Tensor timesteps, scaled, latents;
};

Trace TraceOf(Scheduler& scheduler, const Golden& golden) {
  at::Tensor latents = golden["noise"] * scheduler.init_noise_sigma();
  std::vector<at::Tensor> scaled, after;
  for (int step = 0; step < scheduler.steps(); ++step) {
    scaled.push_back(scheduler.ScaleInput(latents, step));
    const at::Tensor noise = scheduler.needs_step_noise() ? golden["step_noise"][step] : at::Tensor();
    latents = scheduler.Step(golden["outputs"][step], step, latents, noise);
    after.push_back(latents);
  }
  return {at::tensor(scheduler.timesteps(), at::kDouble), at::stack(scaled), at::stack(after)};
}

double Difference(const at::Tensor& actual, const at::Tensor& expected) {
  if (actual.sizes() != expected.sizes()) return INFINITY;
  return (actual - expected).abs().max().item<double>() / std::max(1e-12, expected.abs().max().item<double>());
}

TEST(Scheduler, AgreesWithDiffusersInEveryRecordedCase) {
  const Golden golden("schedulers");
  const nlohmann::json cases = nlohmann::json::parse(golden.metadata().at("cases"));
  ASSERT_GT(cases.size(), 200u);
  // By sampler and whether noise ends at zero SNR: largest difference, and in which case.
  std::map<std::pair<std::string, bool>, std::pair<double, size_t>> worst;
  for (size_t k = 0; k < cases.size(); ++k) {
    const std::string sampler = cases[k]["sampler"];
    SCOPED_TRACE(cases[k].dump());
    const auto scheduler = Create(Samplers().at(sampler), cases[k]["config"].dump(), cases[k]["overrides"].dump(),
                                  cases[k]["steps"].get<int>());
    ASSERT_TRUE(scheduler.ok()) << scheduler.status();
    const Trace trace = TraceOf(**scheduler, golden);
    const std::string at = std::to_string(k) + "/";
    const bool zero_snr = cases[k]["overrides"].value("rescale_betas_zero_snr", false);
    const double tolerance = zero_snr ? kZeroSnrTolerance : kTolerance;
    EXPECT_LE(Difference(trace.timesteps, golden[at + "timesteps"]), kTolerance) << trace.timesteps;
    EXPECT_LE(Difference(trace.scaled, golden[at + "scaled"]), tolerance);
    const double difference = Difference(trace.latents, golden[at + "latents"]);
    EXPECT_LE(difference, tolerance);
    auto& [largest, number] = worst[{sampler, zero_snr}];
    if (difference >= largest) std::tie(largest, number) = std::pair(difference, k);
  }
  for (const auto& [kind, where] : worst) {
    const auto& [sampler, zero_snr] = kind;
    const auto& recorded = cases[where.second];
    auto scheduler = Create(Samplers().at(sampler), recorded["config"].dump(), recorded["overrides"].dump(),
                            recorded["steps"].get<int>());
    const at::Tensor latents = TraceOf(**scheduler, golden).latents;
    EXPECT_TRUE(Parity({"scheduler " + sampler + (zero_snr ? ", zero SNR" : "") + ", worst case", "diffusers 0.42.1"},
                       latents, golden[std::to_string(where.second) + "/latents"],
                       zero_snr ? kZeroSnrTolerance : kTolerance, Measure::kRelativeToLargest));
  }
}

TEST(Scheduler, DdimNeitherClipsNorEndsAtOneUnlessAsked) {
  // diffusers' own class defaults are true for both, and clip the latents of every SDXL model.
  const Golden golden("schedulers");
  const auto silent = Create(Sampler::kDdim, "{}", "", 5);
  const auto explicit_false = Create(Sampler::kDdim, "{}", R"({"clip_sample": false, "set_alpha_to_one": false})", 5);
  const auto explicit_true = Create(Sampler::kDdim, "{}", R"({"clip_sample": true, "set_alpha_to_one": true})", 5);
  ASSERT_TRUE(silent.ok() && explicit_false.ok() && explicit_true.ok());
  const at::Tensor latents = TraceOf(**silent, golden).latents;
  EXPECT_TRUE(latents.equal(TraceOf(**explicit_false, golden).latents));
  EXPECT_FALSE(latents.equal(TraceOf(**explicit_true, golden).latents));
}

TEST(Scheduler, TakesAsManyStepsAsAskedWhereRoundingWouldAddOne) {
  const auto scheduler = Create(Sampler::kEuler, R"({"timestep_spacing": "trailing"})", "", 61);
  ASSERT_TRUE(scheduler.ok()) << scheduler.status();
  EXPECT_EQ((*scheduler)->steps(), 61);
  EXPECT_GE((*scheduler)->timesteps().back(), 0);
}

struct Refusal {
  const char* name;
  Sampler sampler;
  const char* config;
  const char* overrides;
  int steps;
  const char* key;      // that the message names
  const char* allowed;  // that it says
};

class SchedulerRefuses : public ::testing::TestWithParam<Refusal> {};

TEST_P(SchedulerRefuses, WithTheOptionAndWhatItMayBe) {
  const Refusal& refusal = GetParam();
  const auto scheduler = Create(refusal.sampler, refusal.config, refusal.overrides, refusal.steps);
  ASSERT_FALSE(scheduler.ok());
  EXPECT_EQ(scheduler.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(scheduler.status().message()), AllOf(HasSubstr(refusal.key), HasSubstr(refusal.allowed)));
}

INSTANTIATE_TEST_SUITE_P(
    Options, SchedulerRefuses,
    ::testing::Values(
        Refusal{"Thresholding", Sampler::kDdim, "{}", R"({"thresholding": true})", 5, "thresholding", "false"},
        Refusal{"BetaSigmas", Sampler::kEuler, "{}", R"({"use_beta_sigmas": true})", 5, "use_beta_sigmas", "false"},
        Refusal{"Continuous", Sampler::kEuler, R"({"timestep_type": "continuous"})", "", 5, "timestep_type",
                "\"discrete\""},
        Refusal{"TwoSigmaKinds", Sampler::kEuler, "{}",
                R"({"use_karras_sigmas": true, "use_exponential_sigmas": true})", 5, "use_exponential_sigmas", "false"},
        Refusal{"Sde", Sampler::kDpmpp2mKarras, "{}", R"({"algorithm_type": "sde-dpmsolver++"})", 5, "algorithm_type",
                "\"dpmsolver++\""},
        Refusal{"ThirdOrder", Sampler::kDpmpp2mKarras, "{}", R"({"solver_order": 3})", 5, "solver_order", "1 to 2"},
        Refusal{"NoKarras", Sampler::kDpmpp2mKarras, "{}", R"({"use_karras_sigmas": false})", 5, "use_karras_sigmas",
                "always"},
        Refusal{"SamplePrediction", Sampler::kEulerAncestral, "{}", R"({"prediction_type": "sample"})", 5,
                "prediction_type", "\"epsilon\""},
        Refusal{"FlowPrediction", Sampler::kEuler, R"({"prediction_type": "flow_prediction"})", "", 5,
                "prediction_type", "\"epsilon\""},
        Refusal{"OtherClassesKey", Sampler::kEuler, "{}", R"({"clip_sample": true})", 5, "clip_sample",
                "use_karras_sigmas"},
        Refusal{"UnknownKey", Sampler::kEuler, "{}", R"({"karras": true})", 5, "karras", "use_karras_sigmas"},
        Refusal{"NotAnObject", Sampler::kEuler, "{}", "[1]", 5, "scheduler_config", "JSON object"},
        Refusal{"TooManySteps", Sampler::kEuler, "{}", "", 1001, "steps is 1001", "1 to 1000"},
        Refusal{"NoSteps", Sampler::kEuler, "{}", "", 0, "steps is 0", "1 to 1000"},
        Refusal{"OffsetPastTheEnd", Sampler::kDdim, "{}", R"({"steps_offset": 1})", 1000, "steps_offset", "below 1000"},
        Refusal{"ZeroSnrEpsilon", Sampler::kDdim, "{}",
                R"({"rescale_betas_zero_snr": true, "timestep_spacing": "trailing"})", 5, "rescale_betas_zero_snr",
                "v_prediction"},
        Refusal{"ShortBetas", Sampler::kEuler, "{}", R"({"trained_betas": [0.1, 0.2]})", 5, "trained_betas", "1000"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace storyfarm::sdxl
