// Weights that stream draw what resident ones draw, to the last bit; weights in int8 draw nearly that, in little more
// than a quarter of the memory.
#include "pipeline/sdxl/weight_stream.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "pipeline/base/env.h"
#include "pipeline/model/profile.h"
#include "pipeline/sdxl/sdxl.h"

namespace storyfarm::sdxl {
namespace {

constexpr uint64_t kEverything = uint64_t{1} << 40;

struct Model {
  const char* folder;
  int32_t first_word, start, end;  // of its tokens
  double least_decibels;  // networks a few channels wide average little rounding out
};

std::unique_ptr<UNet> Load(const Model& model, const Placement& placement) {
  const auto folder = model::ModelFolder::Open(base::Env::Real(), std::string(STORYFARM_SOURCE_DIR "/") + model.folder);
  EXPECT_TRUE(folder.ok()) << folder.status();
  auto unet = LoadUNet(*folder, placement);
  EXPECT_TRUE(unet.ok()) << unet.status();
  return *std::move(unet);
}

// Two prompts of some words each, as the model's own encoders embed them: a trained UNet answers to no other embeddings.
PromptEmbeds Prompts(const Model& model) {
  const auto folder = model::ModelFolder::Open(base::Env::Real(), std::string(STORYFARM_SOURCE_DIR "/") + model.folder);
  EXPECT_TRUE(folder.ok()) << folder.status();
  const auto encoders = LoadTextEncoders(*folder, {});
  EXPECT_TRUE(encoders.ok()) << encoders.status();
  std::vector<std::vector<int32_t>> ids(2, std::vector<int32_t>(77, model.end));
  for (int row = 0; row < 2; ++row) {
    ids[row][0] = model.start;
    for (int word = 0; word < 8; ++word) ids[row][1 + word] = model.first_word + 8 * row + word;
  }
  return (*encoders)->Encode(ids, ids);
}

UNetInput InputFor(const Model& model, double timestep = 500) {
  const PromptEmbeds prompts = Prompts(model);
  at::manual_seed(7);
  return {.latents = at::randn({2, 4, 12, 16}),
          .timestep = timestep,
          .encoder_hidden_states = prompts.embeds,
          .pooled = prompts.pooled,
          .time_ids = at::tensor({64.f, 64.f, 0.f, 0.f, 64.f, 64.f}).repeat({2, 1})};
}

Placement Streamed(uint64_t resident_bytes, uint64_t buffer_bytes = 0) {
  Placement placement;
  placement.stream = {resident_bytes, buffer_bytes};
  return placement;
}
Placement Int8() {
  Placement placement;
  placement.int8 = true;
  return placement;
}

// Signal over difference, in decibels.
double Decibels(const at::Tensor& exact, const at::Tensor& rough) {
  return 10 * std::log10((exact.square().sum() / (exact - rough).square().sum()).item<double>());
}

class StreamedWeights : public ::testing::TestWithParam<Model> {};

TEST_P(StreamedWeights, GiveTheBitsOfResidentOnes) {
  const auto resident = Load(GetParam(), {});
  const uint64_t all = resident->block_bytes().resident;
  ASSERT_GT(all, 0u);
  EXPECT_EQ(resident->block_bytes().streamed, 0u);
  for (const uint64_t kept : {uint64_t{0}, all / 3, all - 1}) {
    for (const uint64_t buffer : {uint64_t{0}, all / 2}) {
      const auto streamed = Load(GetParam(), Streamed(kept, buffer));
      const BlockBytes bytes = streamed->block_bytes();
      EXPECT_LE(bytes.resident, kept);
      EXPECT_GE(bytes.resident + bytes.streamed, all);
      EXPECT_GT(bytes.buffer, 0u);
      for (const double timestep : {900.0, 300.0, 20.0}) {
        const UNetInput input = InputFor(GetParam(), timestep);
        EXPECT_TRUE(streamed->Forward(input).equal(resident->Forward(input))) << kept << " of " << all << " stay";
      }
    }
  }
}

TEST_P(StreamedWeights, StreamAgainAfterTheBufferWasGivenBack) {
  const auto resident = Load(GetParam(), {});
  const auto streamed = Load(GetParam(), Streamed(0));
  const UNetInput input = InputFor(GetParam());
  const at::Tensor expected = resident->Forward(input);
  for (int round = 0; round < 3; ++round) {
    EXPECT_TRUE(streamed->Forward(input).equal(expected));
    streamed->Park();
  }
}

TEST_P(StreamedWeights, TakeWhatTheModelsProfileCountsOfItsHeaders) {
  const auto folder =
      model::ModelFolder::Open(base::Env::Real(), std::string(STORYFARM_SOURCE_DIR "/") + GetParam().folder);
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto profile = model::ProfileModel(*folder);
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ(Load(GetParam(), {})->block_bytes().resident, profile->unet_block_parameters * 4);
  EXPECT_EQ(Load(GetParam(), Int8())->block_bytes().resident,
            profile->unet_block_parameters + profile->unet_block_scales * 4);
  const BlockBytes streamed = Load(GetParam(), Streamed(0))->block_bytes();
  EXPECT_EQ(streamed.resident, 0u);
  EXPECT_GE(streamed.buffer, profile->largest_block_parameters * 4);
  EXPECT_LT(streamed.buffer, profile->largest_block_parameters * 4 + 1024) << "but for alignment";
}

TEST_P(StreamedWeights, AllFitWhereTheyAreGivenRoom) {
  const auto unet = Load(GetParam(), Streamed(kEverything));
  EXPECT_EQ(unet->block_bytes().streamed, 0u);
  EXPECT_EQ(unet->block_bytes().buffer, 0u);
}

// Attends three times where once is asked, or gives up in the middle of a pass.
class RestlessHook : public SelfAttentionHook {
 public:
  at::Tensor Attend(const SelfAttentionSite& site, const at::Tensor& x) override {
    if (site.layer == give_up_at) throw std::runtime_error("given up by the test");
    for (int i = 0; i < 2; ++i) site.attention(x);
    return site.attention(x);
  }
  int64_t give_up_at = -1;
};

TEST_P(StreamedWeights, AnAbandonedPassHurtsNoLaterOne) {
  const auto resident = Load(GetParam(), {});
  const auto streamed = Load(GetParam(), Streamed(0));
  const UNetInput input = InputFor(GetParam());
  const at::Tensor expected = resident->Forward(input);
  RestlessHook hook;
  for (const int64_t layer : {0, 2, 1}) {
    hook.give_up_at = layer;
    EXPECT_THROW(streamed->Forward(input, &hook), std::runtime_error);
    hook.give_up_at = -1;
    EXPECT_TRUE(streamed->Forward(input, &hook).equal(expected));
  }
  streamed->Park();
}

TEST_P(StreamedWeights, KeepTheOrderThatTensorCoresWant) {
  Placement placement;
  placement.channels_last = true;
  const auto resident = Load(GetParam(), placement);
  placement.stream = {0, 0};
  const auto streamed = Load(GetParam(), placement);
  EXPECT_TRUE(streamed->Forward(InputFor(GetParam())).equal(resident->Forward(InputFor(GetParam()))));
}

TEST_P(StreamedWeights, Int8TakesAboutAQuarterAndKeepsItsDecibels) {
  const auto exact = Load(GetParam(), {});
  const auto rounded = Load(GetParam(), Int8());
  double least = INFINITY;
  for (const double timestep : {981.0, 500.0, 20.0}) {
    const UNetInput input = InputFor(GetParam(), timestep);
    least = std::min(least, Decibels(exact->Forward(input), rounded->Forward(input)));
  }
  const double share = static_cast<double>(rounded->block_bytes().resident) / exact->block_bytes().resident;
  std::printf("%-28s int8 weights: %.1f dB, %.3f of the bytes\n", GetParam().folder, least, share);
  EXPECT_GE(least, GetParam().least_decibels);
  EXPECT_LT(share, 0.35);
}

TEST_P(StreamedWeights, WhatStreamsBesideInt8IsExact) {
  Placement placement = Streamed(0);
  placement.int8 = true;
  const UNetInput input = InputFor(GetParam());
  const at::Tensor exact = Load(GetParam(), {})->Forward(input);
  EXPECT_TRUE(Load(GetParam(), placement)->Forward(input).equal(exact));
  const auto rounded = Load(GetParam(), Int8());
  placement.stream = {rounded->block_bytes().resident / 2, 0};
  const auto mixed = Load(GetParam(), placement);
  EXPECT_LE(mixed->block_bytes().resident, rounded->block_bytes().resident / 2);
  EXPECT_GT(mixed->block_bytes().resident, 0u);
  EXPECT_GE(Decibels(exact, mixed->Forward(input)), Decibels(exact, rounded->Forward(input)));
}

INSTANTIATE_TEST_SUITE_P(Models, StreamedWeights,
                         ::testing::Values(Model{"tests/data/tiny_sdxl", 500, 706, 707, 30},
                                           Model{"tests/data/tiny_options", 500, 706, 707, 30},
                                           Model{"deploy/examples/demo-model", 600, 1077, 1078, 29}));

TEST(Int8Test, EachChannelHasAScaleOfItsOwnAndZerosStayZero) {
  at::Tensor values = at::zeros({3, 4});
  values[0].copy_(at::tensor({1.0f, -2.0f, 0.5f, 0.0f}));
  values[1].copy_(at::tensor({1e-3f, 2e-3f, -1e-3f, 5e-4f}));
  auto slot = std::make_shared<Parameter::Slot>(ToInt8(values, at::kFloat));
  EXPECT_EQ(slot->values.scalar_type(), at::kChar);
  const at::Tensor back = Parameter(slot).Get();
  EXPECT_TRUE(back[2].equal(values[2]));
  for (int channel = 0; channel < 2; ++channel) {
    const double step = values[channel].abs().max().item<double>() / 127;
    EXPECT_LE((back[channel] - values[channel]).abs().max().item<double>(), step * 0.501);
  }
  EXPECT_NEAR(back[0][1].item<double>(), -2, 1e-6) << "the largest is kept";
}

}  // namespace
}  // namespace storyfarm::sdxl
