// Every part of SDXL against diffusers 0.42.1 and transformers 5.23, float32 on the CPU, on the tiny models.
// tools/golden/components.py made the expected values.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "pipeline/base/env.h"
#include "pipeline/sdxl/sdxl.h"
#include "tests/support/golden.h"

namespace storyfarm::sdxl {
namespace {

using testing_support::Golden;
using testing_support::Parity;

constexpr double kTolerance = 1e-4;
constexpr char kDiffusers[] = "diffusers 0.42.1";
constexpr char kTransformers[] = "transformers 5.23";

model::ModelFolder Folder(const std::string& name) {
  auto folder = model::ModelFolder::Open(base::Env::Real(), std::string(STORYFARM_SOURCE_DIR) + "/tests/data/" + name);
  EXPECT_TRUE(folder.ok()) << folder.status();
  return *std::move(folder);
}

template <typename T>
T Must(absl::StatusOr<T> result) {
  EXPECT_TRUE(result.ok()) << result.status();
  return *std::move(result);
}

std::vector<std::vector<int32_t>> Rows(const at::Tensor& ids) {
  std::vector<std::vector<int32_t>> rows;
  for (int64_t i = 0; i < ids.size(0); ++i) {
    const int32_t* row = ids[i].data_ptr<int32_t>();
    rows.emplace_back(row, row + ids.size(1));
  }
  return rows;
}

UNetInput InputOf(const Golden& golden, const std::string& name) {
  return {.latents = golden[name + "/latents"],
          .timestep = golden[name + "/timestep"].item<double>(),
          .encoder_hidden_states = golden[name + "/context"],
          .pooled = golden[name + "/pooled"],
          .time_ids = golden[name + "/time_ids"]};
}

class ParityTest : public ::testing::TestWithParam<const char*> {
 protected:
  std::string Row(const std::string& component) const { return component + " (" + GetParam() + ")"; }
  const std::string model_ = GetParam();
};

TEST_P(ParityTest, TextEncodersGiveTransformersStates) {
  const Golden golden("text_" + model_);
  const model::ModelFolder folder = Folder(model_);
  for (const std::string part : {"first", "second"}) {
    const std::string component = part == "first" ? "text_encoder" : "text_encoder_2";
    Weights weights = Must(Weights::Open(folder, component, {}));
    const ClipTextModel encoder(Must(folder.TextEncoder(component)), &weights);
    ASSERT_TRUE(weights.Finish().ok()) << weights.Finish();
    const ClipTextModel::Output output = encoder.Forward(golden[part + "_ids"].to(at::kLong));
    EXPECT_TRUE(Parity({Row(component + " penultimate"), kTransformers}, output.penultimate,
                       golden[part + "_penultimate"], kTolerance));
    EXPECT_TRUE(Parity({Row(component + " last"), kTransformers}, output.last, golden[part + "_last"], kTolerance));
    EXPECT_TRUE(Parity({Row(component + " pooled"), kTransformers}, output.pooled,
                       part == "first" ? golden["first_pooled"] : golden["pooled"], kTolerance));
  }
}

TEST_P(ParityTest, PromptsEmbedAsInStableDiffusionXlPipeline) {
  const Golden golden("text_" + model_);
  const auto encoders = Must(LoadTextEncoders(Folder(model_), {}));
  const PromptEmbeds prompt = encoders->Encode(Rows(golden["first_ids"]), Rows(golden["second_ids"]));
  EXPECT_TRUE(Parity({Row("prompt_embeds"), kDiffusers}, prompt.embeds, golden["embeds"], kTolerance));
  EXPECT_TRUE(Parity({Row("pooled_prompt_embeds"), kDiffusers}, prompt.pooled, golden["pooled"], kTolerance));
}

TEST_P(ParityTest, UNetPredictsWhatDiffusersPredicts) {
  const Golden golden("unet_" + model_);
  const auto unet = Must(LoadUNet(Folder(model_), {}));
  for (const std::string name : {"square", "odd", "fraction", "freeu_square", "freeu_odd", "freeu_flat"}) {
    const bool freeu = golden[name + "/freeu"].item<int>() != 0;
    unet->set_freeu(freeu ? std::optional<FreeU>(FreeU{}) : std::nullopt);
    const at::Tensor output = unet->Forward(InputOf(golden, name));
    EXPECT_TRUE(Parity({Row("UNet " + name), kDiffusers}, output, golden[name + "/output"], kTolerance));
  }
}

TEST_P(ParityTest, UNetGivesTheSameInChunksOfQueries) {
  const Golden golden("unet_" + model_);
  const auto unet = Must(LoadUNet(Folder(model_), {}));
  unet->set_attention_chunk(7);
  EXPECT_TRUE(Parity({Row("UNet odd, chunks of 7 queries"), kDiffusers}, unet->Forward(InputOf(golden, "odd")),
                     golden["odd/output"], kTolerance));
}

TEST_P(ParityTest, UNetGivesTheSameInChannelsLastOrder) {
  const Golden golden("unet_" + model_);
  const auto unet = Must(LoadUNet(Folder(model_), {.channels_last = true}));
  EXPECT_TRUE(Parity({Row("UNet odd, channels last"), kDiffusers}, unet->Forward(InputOf(golden, "odd")),
                     golden["odd/output"], kTolerance));
}

TEST_P(ParityTest, VaeDecodesAndEncodesAsDiffusers) {
  const Golden golden("vae_" + model_);
  const auto vae = Must(LoadVae(Folder(model_), {}));
  const at::Tensor decoded = vae->Decode(golden["latents"]);
  EXPECT_TRUE(Parity({Row("VAE decode"), kDiffusers}, decoded, golden["decoded"], kTolerance));
  EXPECT_TRUE(Parity({Row("VAE decode, tiles of 8"), kDiffusers}, vae->Decode(golden["latents"], 8), golden["decoded"],
                     kTolerance));
  const auto encoder = Must(LoadVaeEncoder(Folder(model_), {}));
  EXPECT_TRUE(
      Parity({Row("VAE encode"), kDiffusers}, encoder->Encode(golden["pictures"]), golden["encoded"], kTolerance));
  // A value within 1e-4 of a rounding edge may fall to either side.
  EXPECT_TRUE(Parity({Row("RGB"), kDiffusers}, ToRgb8(decoded), golden["rgb"], 1));
  EXPECT_TRUE(Parity({Row("RGB of the reference's picture"), kDiffusers}, ToRgb8(golden["decoded"]), golden["rgb"], 0));
}

INSTANTIATE_TEST_SUITE_P(TinyModels, ParityTest, ::testing::Values("tiny_sdxl", "tiny_options"));

}  // namespace
}  // namespace storyfarm::sdxl
