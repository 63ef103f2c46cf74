#include "pipeline/render/denoise.h"

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "pipeline/render/banks.h"

namespace storyfarm::render {
namespace {

// What the UNet is told beside the latents, one guidance half after the other.
struct Conditions {
  at::Tensor embeds, pooled, time_ids;  // [halves x frames, ...], the unconditional half first
};

Conditions BuildConditions(const std::vector<BatchFrame>& frames, bool guidance, const sdxl::Placement& placement) {
  std::vector<at::Tensor> embeds, pooled, ids;
  for (int half = guidance ? 0 : 1; half < 2; ++half) {
    for (const BatchFrame& frame : frames) {
      const sdxl::PromptEmbeds& prompt = half == 0 ? frame.prompts->unconditional : frame.prompts->conditional;
      embeds.push_back(prompt.embeds);
      pooled.push_back(prompt.pooled);
      const float height = static_cast<float>(frame.frame->height), width = static_cast<float>(frame.frame->width);
      ids.push_back(at::tensor({height, width, 0.0f, 0.0f, height, width}).unsqueeze(0));
    }
  }
  const auto place = [&](const std::vector<at::Tensor>& rows, at::ScalarType dtype) {
    return at::cat(rows, 0).to(placement.device, dtype);
  };
  return {place(embeds, placement.dtype), place(pooled, placement.dtype), place(ids, at::kFloat)};
}

absl::StatusOr<at::Tensor> StackDraws(
    const std::vector<BatchFrame>& frames, identity::LatentShape shape, at::Device device,
    const std::function<absl::StatusOr<std::vector<float>>(const identity::FrameName&)>& draw) {
  std::vector<at::Tensor> rows;
  for (const BatchFrame& frame : frames) {
    const absl::StatusOr<std::vector<float>> values = draw(frame.name);
    if (!values.ok()) return values.status();
    rows.push_back(at::tensor(*values).view({1, shape.channels, shape.height, shape.width}));
  }
  return at::cat(rows, 0).to(device);
}

// Whether each frame's latents are finite: told on the device, and asked for when the next step is under way there, so
// that it need not stand still for the answer.
class FiniteCheck {
 public:
  FiniteCheck(const std::vector<BatchFrame>& frames, device::Landings& landings)
      : frames_(frames), landings_(landings) {}

  // Of step `step`; first the answer of the one before.
  absl::Status Ask(const at::Tensor& latents, int step) {
    const at::Tensor finite = latents.isfinite().flatten(1).all(1).to(at::kByte);
    const std::shared_ptr<device::Landing> landing = landings_.Begin(finite);
    const absl::Status before = Answer();
    landing_ = landing;
    step_ = step;
    return before;
  }
  // Of the last step that was asked for.
  absl::Status Answer() {
    const std::shared_ptr<device::Landing> landing = std::exchange(landing_, nullptr);
    if (landing == nullptr) return absl::OkStatus();
    const std::span<const std::byte> finite = landing->Wait();
    for (size_t f = 0; f < frames_.size(); ++f) {
      if (finite[f] != std::byte{0}) continue;
      return Fail(FailureKind::kInvalidOutput,
                  absl::StrCat(FrameText(*frames_[f].frame), ": latents are not finite after step ", step_,
                               ". A model that overflows in fp16 needs dtype fp32; else the weights are damaged"));
    }
    return absl::OkStatus();
  }

 private:
  const std::vector<BatchFrame>& frames_;
  device::Landings& landings_;
  std::shared_ptr<device::Landing> landing_;
  int step_ = 0;
};

// One half of all frames' predictions, [frames, channels, height, width], float32.
at::Tensor CallInLockStep(const at::Tensor& input, double timestep, const Conditions& conditions, int64_t first_row,
                          sdxl::UNet& unet, identity::WritePass& pass) {
  const int64_t frames = input.size(0);
  std::vector<std::unique_ptr<sdxl::UNetWalk>> walks;
  for (int64_t i = 0; i < frames; ++i) {
    const int64_t row = first_row + i;
    walks.push_back(unet.Begin({input.narrow(0, i, 1), timestep, conditions.embeds.narrow(0, row, 1),
                                conditions.pooled.narrow(0, row, 1), conditions.time_ids.narrow(0, row, 1)}));
  }
  while (!walks[0]->done()) {
    if (walks[0]->site() == nullptr) {
      for (const auto& walk : walks) walk->Run();
      continue;
    }
    std::vector<at::Tensor> xs;
    for (const auto& walk : walks) xs.push_back(walk->x());
    pass.Gather(*walks[0]->site(), xs);
    xs.clear();
    for (int64_t i = 0; i < frames; ++i) walks[i]->Attended(pass.AttendFrame(*walks[i]->site(), i, walks[i]->x()));
  }
  std::vector<at::Tensor> predictions;
  for (auto& walk : walks) {
    predictions.push_back(walk->TakePrediction().to(at::kFloat));
    walk.reset();
  }
  return at::cat(predictions, 0);
}

// The UNet's prediction after guidance, float32.
at::Tensor Predict(const at::Tensor& input, double timestep, const Conditions& conditions,
                   const DenoiseOptions& options, sdxl::UNet& unet, identity::Pass* pass) {
  const int64_t frames = input.size(0);
  const auto call = [&](const at::Tensor& latents, int64_t first, identity::Halves halves) {
    if (pass != nullptr) pass->BeginCall(halves);
    if (options.lock_step != nullptr) {
      return CallInLockStep(latents, timestep, conditions, first, unet, *options.lock_step);
    }
    const int64_t rows = latents.size(0);
    return unet
        .Forward({latents, timestep, conditions.embeds.narrow(0, first, rows), conditions.pooled.narrow(0, first, rows),
                  conditions.time_ids.narrow(0, first, rows)},
                 pass)
        .to(at::kFloat);
  };
  if (!UsesGuidance(options.guidance_scale)) return call(input, 0, {.first = 0, .count = 1});
  at::Tensor unconditional, conditional;
  if (options.guidance_batched && options.lock_step == nullptr) {
    const at::Tensor both = call(at::cat({input, input}, 0), 0, {.first = 0, .count = 2});
    unconditional = both.narrow(0, 0, frames);
    conditional = both.narrow(0, frames, frames);
  } else {
    unconditional = call(input, 0, {.first = 0, .count = 1});
    conditional = call(input, frames, {.first = 1, .count = 1});
  }
  return unconditional + options.guidance_scale * (conditional - unconditional);
}

}  // namespace

std::string FrameText(const Frame& frame) {
  return absl::StrCat(frame.hidden ? "hidden identity frame " : "panel ", frame.panel);
}

absl::StatusOr<at::Tensor> Denoise(const std::vector<BatchFrame>& frames, const DenoiseOptions& options,
                                   sdxl::UNet& unet, sdxl::Scheduler& scheduler, identity::DrawSource& draws,
                                   identity::Pass* pass, device::Landings& landings, const AfterStep& after_step) {
  const sdxl::Placement& placement = unet.placement();
  const Conditions conditions = BuildConditions(frames, UsesGuidance(options.guidance_scale), placement);
  absl::StatusOr<at::Tensor> noise =
      StackDraws(frames, options.shape, placement.device,
                 [&](const identity::FrameName& name) { return draws.Noise(name, options.shape); });
  if (!noise.ok()) return noise.status();
  at::Tensor latents = *noise * scheduler.init_noise_sigma();
  FiniteCheck check(frames, landings);

  for (int step = 0; step < scheduler.steps(); ++step) {
    if (pass != nullptr) {
      if (const absl::Status status = pass->BeginStep(step); !status.ok()) return status;
    }
    const at::Tensor input = scheduler.ScaleInput(latents, step).to(placement.dtype);
    const at::Tensor prediction = Predict(input, scheduler.timesteps()[step], conditions, options, unet, pass);
    // A call whose identity state failed ran to its end on nonsense, which nobody sees.
    if (pass != nullptr && !pass->failure().ok()) return BankFailure(pass->failure());
    at::Tensor step_noise;
    if (scheduler.needs_step_noise()) {
      absl::StatusOr<at::Tensor> drawn =
          StackDraws(frames, options.shape, placement.device,
                     [&](const identity::FrameName& name) { return draws.StepNoise(name, step, options.shape); });
      if (!drawn.ok()) return drawn.status();
      step_noise = *std::move(drawn);
    }
    latents = scheduler.Step(prediction, step, latents, step_noise);
    if (const absl::Status status = check.Ask(latents, step); !status.ok()) return status;
    if (step + 1 == scheduler.steps()) {
      if (const absl::Status status = check.Answer(); !status.ok()) return status;
    }
    if (const absl::Status status = after_step(step + 1, latents); !status.ok()) return status;
  }
  return latents;
}

}  // namespace storyfarm::render
