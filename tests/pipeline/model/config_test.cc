// Configs: every option that SDXL checkpoints use is read, everything else is refused by name.
#include "pipeline/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "nlohmann/json.hpp"

namespace storyfarm::model {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// SDXL base 1.0's unet/config.json, without its comments of origin.
json SdxlUNet() {
  return json::parse(R"({
    "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.19.0.dev0", "act_fn": "silu",
    "addition_embed_type": "text_time", "addition_embed_type_num_heads": 64, "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280], "center_input_sample": false,
    "class_embed_type": null, "class_embeddings_concat": false, "conv_in_kernel": 3, "conv_out_kernel": 3,
    "cross_attention_dim": 2048, "cross_attention_norm": null,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], "downsample_padding": 1,
    "dual_cross_attention": false, "encoder_hid_dim": null, "encoder_hid_dim_type": null, "flip_sin_to_cos": true,
    "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_only_cross_attention": null,
    "mid_block_scale_factor": 1, "mid_block_type": "UNetMidBlock2DCrossAttn", "norm_eps": 1e-05, "norm_num_groups": 32,
    "num_attention_heads": null, "num_class_embeds": null, "only_cross_attention": false, "out_channels": 4,
    "projection_class_embeddings_input_dim": 2816, "resnet_out_scale_factor": 1.0, "resnet_skip_time_act": false,
    "resnet_time_scale_shift": "default", "sample_size": 128, "time_cond_proj_dim": null, "time_embedding_act_fn": null,
    "time_embedding_dim": null, "time_embedding_type": "positional", "timestep_post_act": null,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "upcast_attention": null,
    "use_linear_projection": true})");
}

absl::StatusOr<UNetConfig> UNetWith(const json& changes) {
  json config = SdxlUNet();
  config.merge_patch(changes);
  for (const auto& [key, value] : changes.items()) config[key] = value;  // merge_patch removes what is null
  return ParseUNetConfig(config.dump(), "unet/config.json");
}

std::string UNetError(const json& changes) {
  absl::StatusOr<UNetConfig> config = UNetWith(changes);
  EXPECT_FALSE(config.ok()) << changes;
  return std::string(config.status().message());
}

TEST(UNetConfig, ReadsSdxlBase) {
  absl::StatusOr<UNetConfig> config = UNetWith(json::object());
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->down_blocks.size(), 3u);
  EXPECT_FALSE(config->down_blocks[0].has_attention());
  EXPECT_THAT(config->down_blocks[1].transformer_layers, ElementsAre(2, 2));
  EXPECT_THAT(config->down_blocks[2].transformer_layers, ElementsAre(10, 10));
  EXPECT_EQ(config->down_blocks[2].heads, 20);
  EXPECT_THAT(config->mid_block.transformer_layers, ElementsAre(10));
  EXPECT_EQ(config->mid_block.resnets, 2);
  EXPECT_THAT(config->up_blocks[0].transformer_layers, ElementsAre(10, 10, 10));
  EXPECT_THAT(config->up_blocks[1].transformer_layers, ElementsAre(2, 2, 2));
  EXPECT_EQ(config->up_blocks[0].channels, 1280);
  EXPECT_EQ(config->up_blocks[1].heads, 10);
  EXPECT_FALSE(config->up_blocks[2].has_attention());
  EXPECT_EQ(config->up_blocks[2].resnets, 3);
  EXPECT_EQ(config->time_embed_dim, 1280);
  EXPECT_EQ(config->total_downsampling(), 4);
  EXPECT_EQ(config->sample_height, 128);
  EXPECT_FALSE(config->upcast_attention);
}

TEST(UNetConfig, ReadsListsWhereOtherCheckpointsHaveThem) {
  absl::StatusOr<UNetConfig> config =
      UNetWith({{"layers_per_block", {1, 2, 3}},
                {"cross_attention_dim", {2048, 1024, 512}},
                {"sample_size", {96, 160}},
                {"attention_head_dim", 10},
                {"num_attention_heads", {1, 2, 4}},
                {"transformer_layers_per_block", json::parse("[1, [2, 3], [4, 5, 6]]")},
                {"reverse_transformer_layers_per_block", json::parse("[[7, 8, 9, 10], 2, 1]")}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->down_blocks[0].resnets, 1);
  EXPECT_THAT(config->down_blocks[2].transformer_layers, ElementsAre(4, 5, 6));
  EXPECT_THAT(config->mid_block.transformer_layers, ElementsAre(4));
  EXPECT_THAT(config->up_blocks[0].transformer_layers, ElementsAre(7, 8, 9, 10));
  EXPECT_THAT(config->up_blocks[1].transformer_layers, ElementsAre(2, 2, 2));
  EXPECT_EQ(config->up_blocks[0].cross_attention_dim, 512);
  EXPECT_EQ(config->down_blocks[2].heads, 4);
  EXPECT_EQ(config->sample_height, 96);
  EXPECT_EQ(config->sample_width, 160);
}

TEST(UNetConfig, AbsentKeysHaveTheDefaultsOfDiffusers) {
  absl::StatusOr<UNetConfig> config = ParseUNetConfig(
      R"({"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 64,
          "attention_head_dim": 8})",
      "unet/config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->down_blocks.size(), 4u);
  EXPECT_EQ(config->down_blocks[0].heads, 8);
  EXPECT_TRUE(config->down_blocks[0].has_attention());
  EXPECT_FALSE(config->up_blocks[0].has_attention());
  EXPECT_EQ(config->down_blocks[3].cross_attention_dim, 1280);
  EXPECT_FALSE(config->use_linear_projection);
  EXPECT_EQ(config->sample_width, 128);
}

TEST(UNetConfig, WhatIsNotImplementedIsNamedWithItsValue) {
  const struct {
    json changes;
    std::string value;
  } cases[] = {
      {{{"down_block_types", {"DownBlock2D", "AttnDownBlock2D", "CrossAttnDownBlock2D"}}}, "AttnDownBlock2D"},
      {{{"up_block_types", {"SimpleCrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"}}},
       "SimpleCrossAttnUpBlock2D"},
      {{{"mid_block_type", "UNetMidBlock2D"}}, "UNetMidBlock2D"},
      {{{"act_fn", "gelu"}}, "gelu"},
      {{{"class_embed_type", "timestep"}}, "timestep"},
      {{{"addition_embed_type", nullptr}}, "null"},
      {{{"addition_embed_type", "image"}}, "image"},
      {{{"encoder_hid_dim_type", "ip_image_proj"}}, "ip_image_proj"},
      {{{"time_cond_proj_dim", 256}}, "256"},
      {{{"only_cross_attention", true}}, "true"},
      {{{"only_cross_attention", {false, true, false}}}, "true"},
      {{{"dual_cross_attention", true}}, "true"},
      {{{"attention_type", "gated"}}, "gated"},
      {{{"time_embedding_type", "fourier"}}, "fourier"},
      {{{"resnet_time_scale_shift", "ada_group"}}, "ada_group"},
      {{{"norm_num_groups", nullptr}}, "null"},
      {{{"_class_name", "SD3Transformer2DModel"}}, "SD3Transformer2DModel"},
  };
  for (const auto& c : cases) {
    absl::StatusOr<UNetConfig> config = UNetWith(c.changes);
    EXPECT_TRUE(absl::IsUnimplemented(config.status())) << c.changes << config.status();
    EXPECT_THAT(std::string(config.status().message()),
                AllOf(HasSubstr("unet/config.json"), HasSubstr(c.changes.begin().key()), HasSubstr(c.value),
                      HasSubstr("supported:")));
  }
}

TEST(UNetConfig, ContradictionsAndWrongTypesAreNamed) {
  const json cases[] = {
      {{"block_out_channels", json::array()}},
      {{"block_out_channels", {320, 640}}},
      {{"block_out_channels", {320, 641, 1280}}},
      {{"block_out_channels", {320, -640, 1280}}},
      {{"block_out_channels", "many"}},
      {{"layers_per_block", {2, 2}}},
      {{"layers_per_block", 0}},
      {{"layers_per_block", 1e30}},
      {{"attention_head_dim", {5, 10, 21}}},
      {{"transformer_layers_per_block", json::parse("[1, [2, 2], 10]")}},
      {{"transformer_layers_per_block", {1, 2}}},
      {{"transformer_layers_per_block", {1, 2, 99999}}},
      {{"conv_in_kernel", 4}},
      {{"use_linear_projection", "yes"}},
      {{"addition_time_embed_dim", nullptr}},
      {{"projection_class_embeddings_input_dim", 100}},
      {{"norm_num_groups", 0}},
      {{"norm_eps", "small"}},
      {{"sample_size", {1, 2, 3}}},
  };
  for (const json& changes : cases) {
    EXPECT_TRUE(absl::IsInvalidArgument(UNetWith(changes).status())) << changes << UNetWith(changes).status();
    EXPECT_THAT(UNetError(changes), AllOf(HasSubstr("unet/config.json"), HasSubstr(changes.begin().key())));
  }
}

TEST(UNetConfig, HarmlessAndUnknownKeysAreIgnored) {
  EXPECT_TRUE(UNetWith({{"dropout", 0.1}, {"_name_or_path", "x"}, {"some_future_key", {1, 2}}}).ok());
}

TEST(Configs, WhatIsNoJsonObjectIsRefused) {
  const std::string deep = "{\"a\":" + std::string(1000, '[') + std::string(1000, ']') + "}";
  for (const std::string& text : {std::string(), std::string("[]"), std::string("{"), std::string("\xff"), deep,
                                  "{\"a\":\"" + std::string(2 << 20, 'x') + "\"}"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseUNetConfig(text, "f").status()));
    EXPECT_TRUE(absl::IsInvalidArgument(ParseVaeConfig(text, "f").status()));
    EXPECT_TRUE(absl::IsInvalidArgument(ParseClipTextConfig(text, "f").status()));
    EXPECT_TRUE(absl::IsInvalidArgument(ParseSchedulerConfig(text, "f").status()));
    EXPECT_TRUE(absl::IsInvalidArgument(ParseModelIndex(text, "f").status()));
  }
}

TEST(VaeConfig, ReadsSdxlAndItsDefaults) {
  absl::StatusOr<VaeConfig> config = ParseVaeConfig(
      R"({"_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "force_upcast": true,
          "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
          "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
          "layers_per_block": 2, "scaling_factor": 0.13025, "sample_size": 1024, "latents_mean": null})",
      "vae/config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->scale_factor(), 8);
  EXPECT_DOUBLE_EQ(config->scaling_factor, 0.13025);
  EXPECT_TRUE(config->use_quant_conv);
  EXPECT_FALSE(config->shift_factor.has_value());
  EXPECT_TRUE(config->latents_mean.empty());
}

TEST(VaeConfig, RefusesWhatItCantBe) {
  const auto error = [](const char* text) {
    return std::string(ParseVaeConfig(text, "vae/config.json").status().message());
  };
  EXPECT_THAT(error(R"({"_class_name": "AutoencoderTiny"})"), HasSubstr("AutoencoderTiny"));
  EXPECT_THAT(error(R"({"down_block_types": ["AttnDownEncoderBlock2D"]})"), HasSubstr("AttnDownEncoderBlock2D"));
  EXPECT_THAT(error(R"({"latents_mean": [0, 0, 0, 0]})"), HasSubstr("latents_std"));
  EXPECT_THAT(error(R"({"latents_mean": [0, 0], "latents_std": [1, 1]})"), HasSubstr("latent channels"));
  EXPECT_THAT(error(R"({"scaling_factor": 0})"), HasSubstr("scaling_factor"));
  EXPECT_THAT(error(R"({"block_out_channels": [33]})"), HasSubstr("33"));
}

TEST(ClipTextConfig, TellsTheProjectedModelFromThePlainOne) {
  absl::StatusOr<ClipTextConfig> plain = ParseClipTextConfig(
      R"({"architectures": ["CLIPTextModel"], "projection_dim": 768, "hidden_act": "quick_gelu", "eos_token_id": 2})",
      "f");
  absl::StatusOr<ClipTextConfig> projected = ParseClipTextConfig(
      R"({"architectures": ["CLIPTextModelWithProjection"], "projection_dim": 1280, "hidden_act": "gelu",
          "hidden_size": 1280, "num_attention_heads": 20})",
      "f");
  ASSERT_TRUE(plain.ok()) << plain.status();
  ASSERT_TRUE(projected.ok()) << projected.status();
  EXPECT_FALSE(plain->projection_dim.has_value());
  EXPECT_EQ(plain->eos_token_id, 2);
  EXPECT_EQ(projected->projection_dim, 1280);
  EXPECT_EQ(projected->hidden_act, Activation::kGelu);
  EXPECT_EQ(projected->eos_token_id, 49407);
}

TEST(ClipTextConfig, RefusesOtherModelsAndActivations) {
  EXPECT_TRUE(absl::IsUnimplemented(ParseClipTextConfig(R"({"hidden_act": "gelu_new"})", "f").status()));
  EXPECT_TRUE(absl::IsUnimplemented(ParseClipTextConfig(R"({"model_type": "t5"})", "f").status()));
  EXPECT_TRUE(absl::IsUnimplemented(ParseClipTextConfig(R"({"architectures": ["T5EncoderModel"]})", "f").status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(ParseClipTextConfig(R"({"hidden_size": 100, "num_attention_heads": 7})", "f").status()));
}

TEST(SchedulerConfig, KeepsAbsentFromNamed) {
  absl::StatusOr<SchedulerConfig> config = ParseSchedulerConfig(
      R"({"_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085, "clip_sample": false, "trained_betas": null,
          "skip_prk_steps": true, "lambda_min_clipped": -Infinity, "sigma_max": null, "unheard_of": [NaN]})",
      "f");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->class_name, "EulerDiscreteScheduler");
  EXPECT_EQ(config->beta_start, 0.00085);
  EXPECT_EQ(config->clip_sample, false);
  EXPECT_FALSE(config->set_alpha_to_one.has_value());
  EXPECT_FALSE(config->trained_betas.has_value());
  EXPECT_EQ(config->lambda_min_clipped, -INFINITY);
}

TEST(SchedulerConfig, OverridesReplaceKeysAndNullTakesThemAway) {
  absl::StatusOr<SchedulerConfig> config =
      ParseSchedulerConfig(R"({"steps_offset": 1, "timestep_spacing": "leading"})", "f");
  ASSERT_TRUE(config.ok());
  absl::StatusOr<SchedulerConfig> merged =
      config->MergeOverrides(R"({"timestep_spacing": "trailing", "steps_offset": null, "trained_betas": [0.1, 0.2]})");
  ASSERT_TRUE(merged.ok()) << merged.status();
  EXPECT_EQ(merged->timestep_spacing, "trailing");
  EXPECT_FALSE(merged->steps_offset.has_value());
  EXPECT_THAT(*merged->trained_betas, ElementsAre(0.1, 0.2));
  EXPECT_EQ(config->MergeOverrides("")->steps_offset, 1);
}

TEST(SchedulerConfig, BadOverridesAreRefusedByName) {
  const SchedulerConfig config;
  const auto error = [&](const char* text) { return std::string(config.MergeOverrides(text).status().message()); };
  EXPECT_THAT(error(R"({"beta_strat": 1})"), AllOf(HasSubstr("beta_strat"), HasSubstr("beta_start, ")));
  EXPECT_THAT(error(R"({"beta_start": "low"})"), HasSubstr("beta_start"));
  EXPECT_THAT(error(R"({"num_train_timesteps": 0})"), HasSubstr("num_train_timesteps"));
  EXPECT_THAT(error(R"({"trained_betas": []})"), HasSubstr("trained_betas"));
  EXPECT_THAT(error(R"({"beta_end": Infinity})"), HasSubstr("beta_end"));
  EXPECT_THAT(error("[1]"), HasSubstr("object"));
  EXPECT_THAT(error(R"({"_class_name": "X"})"), HasSubstr("_class_name"));
}

TEST(ModelIndex, OtherPipelinesAreRefusedInWords) {
  const char* sdxl = R"({"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": false,
      "text_encoder": ["transformers", "CLIPTextModel"], "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
      "tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"],
      "image_encoder": [null, null], "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]})";
  absl::StatusOr<ModelIndex> index = ParseModelIndex(sdxl, "model_index.json");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_FALSE(index->force_zeros_for_empty_prompt);
  EXPECT_EQ(index->components.count("image_encoder"), 0u);
  json other = json::parse(sdxl);
  other["_class_name"] = "StableDiffusionPipeline";
  EXPECT_THAT(std::string(ParseModelIndex(other.dump(), "model_index.json").status().message()),
              AllOf(HasSubstr("StableDiffusionPipeline"), HasSubstr("SDXL")));
  json refiner = json::parse(sdxl);
  refiner["text_encoder"] = {nullptr, nullptr};
  EXPECT_THAT(std::string(ParseModelIndex(refiner.dump(), "model_index.json").status().message()),
              HasSubstr("text_encoder"));
}

}  // namespace
}  // namespace storyfarm::model
