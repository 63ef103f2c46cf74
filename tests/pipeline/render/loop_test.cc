// The denoising loop and decoding against whole runs of diffusers' pipeline (tools/golden/loops.py), at every step.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "pipeline/base/env.h"
#include "pipeline/render/denoise.h"
#include "pipeline/render/loaded_model.h"
#include "tests/support/golden.h"

namespace storyfarm::render {
namespace {

using testing_support::Golden;
using testing_support::Parity;

// Noise as recorded; a plain run draws nothing else.
class RecordedNoise final : public identity::DrawSource {
 public:
  explicit RecordedNoise(at::Tensor noise) : noise_(std::move(noise)) {}
  absl::StatusOr<std::vector<float>> Noise(const identity::FrameName& frame, identity::LatentShape) override {
    const at::Tensor own = noise_[frame.panel].contiguous();
    return std::vector<float>(own.const_data_ptr<float>(), own.const_data_ptr<float>() + own.numel());
  }
  absl::StatusOr<std::vector<float>> StepNoise(const identity::FrameName&, int, identity::LatentShape) override {
    return absl::InternalError("no step noise was recorded");
  }
  absl::StatusOr<identity::GateTable> IdentityGates(const identity::CharacterName&) override {
    return absl::InternalError("no gates were recorded");
  }
  absl::StatusOr<identity::GateTable> FrameGates(const identity::FrameName&) override {
    return absl::InternalError("no gates were recorded");
  }
  absl::StatusOr<std::vector<int32_t>> Tokens(const identity::CharacterName&, int, identity::Grid, int) override {
    return absl::InternalError("no tokens were recorded");
  }
  bool gates_may_differ() const override { return true; }

 private:
  at::Tensor noise_;
};

class Loop : public ::testing::TestWithParam<std::pair<const char*, sdxl::Sampler>> {};

TEST_P(Loop, AgreesWithDiffusersAtEveryStep) {
  const auto [name, sampler] = GetParam();
  const Golden golden(std::string("loop_") + name);
  const auto& about = golden.metadata();
  const c10::InferenceMode inference;
  auto model = LoadedModel::Open(base::Env::Real(), std::string(STORYFARM_SOURCE_DIR) + "/tests/data/tiny_sdxl",
                                 Dtype::kFp32, Dtype::kFp32, at::kCPU);
  ASSERT_TRUE(model.ok()) << model.status();
  std::vector<Frame> frames;
  for (const auto& prompt : nlohmann::json::parse(about.at("prompts"))) {
    Frame frame;
    frame.panel = static_cast<int>(frames.size());
    frame.prompt = prompt;
    frame.negative_prompt = about.at("negative_prompt");
    frame.width = std::stoi(about.at("width"));
    frame.height = std::stoi(about.at("height"));
    frames.push_back(frame);
  }
  const auto prompts = (*model)->EncodePrompts(frames, true, nullptr);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  const auto unet = (*model)->UNet();
  ASSERT_TRUE(unet.ok()) << unet.status();
  if (about.at("freeu") == "on") (*unet)->set_freeu(sdxl::FreeU{0.6, 0.4, 1.1, 1.2});
  auto scheduler = sdxl::Scheduler::Create(sampler, (*model)->scheduler(), "", std::stoi(about.at("steps")));
  ASSERT_TRUE(scheduler.ok()) << scheduler.status();
  std::vector<BatchFrame> batch;
  for (size_t f = 0; f < frames.size(); ++f) batch.push_back({&frames[f], {.panel = frames[f].panel}, &(*prompts)[f]});

  RecordedNoise noise(golden["noise"]);
  const int64_t factor = (*model)->pixels_per_latent();
  std::map<int, at::Tensor> steps;
  const std::unique_ptr<device::Landings> landings = device::NewCopiedLandings();
  const auto latents = Denoise(
      batch, {std::stod(about.at("guidance_scale")), true, {4, frames[0].height / factor, frames[0].width / factor}},
      **unet, **scheduler, noise, nullptr, *landings, [&](int finished, const at::Tensor& now) {
        steps[finished - 1] = now.clone();
        return absl::OkStatus();
      });
  ASSERT_TRUE(latents.ok()) << latents.status();
  ASSERT_EQ(steps.size(), static_cast<size_t>(std::stoi(about.at("steps"))));
  for (const auto& [step, now] : steps) {
    EXPECT_TRUE(Parity({std::string("loop ") + name + ", step " + std::to_string(step), "diffusers 0.42.1"}, now,
                       golden["latents/" + std::to_string(step)], 1e-3));
  }
  const auto vae = (*model)->Vae();
  ASSERT_TRUE(vae.ok()) << vae.status();
  const at::Tensor image = sdxl::ToRgb8((*vae)->Decode(*latents));
  EXPECT_TRUE(
      Parity({std::string("picture of loop ") + name + ", of 255", "diffusers 0.42.1"}, image, golden["image"], 1));
}

INSTANTIATE_TEST_SUITE_P(Samplers, Loop,
                         ::testing::Values(std::pair("ddim", sdxl::Sampler::kDdim),
                                           std::pair("euler", sdxl::Sampler::kEuler),
                                           std::pair("dpmpp_2m_karras", sdxl::Sampler::kDpmpp2mKarras)),
                         [](const auto& info) { return std::string(info.param.first); });

}  // namespace
}  // namespace storyfarm::render
