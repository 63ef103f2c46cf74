#include "tests/pipeline/plan/shapes.h"

#include <algorithm>
#include <variant>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/plan.h"

namespace storyfarm::plan {
namespace {

struct Level {
  uint32_t channels, heads, down, up, layers, csa;
};

farm::v1::ModelProfile Profile(const std::vector<Level>& levels, const std::vector<uint32_t>& vae_channels,
                               uint32_t native_edge) {
  farm::v1::ModelProfile profile;
  uint32_t downsampling = 1;
  for (const Level& level : levels) {
    farm::v1::UnetLevel* added = profile.add_levels();
    added->set_downsampling(downsampling);
    added->set_channels(level.channels);
    added->set_heads(level.heads);
    added->set_resnets_down(level.down);
    added->set_resnets_up(level.up);
    added->set_transformer_layers(level.layers);
    added->set_csa_layers(level.csa);
    downsampling *= 2;
  }
  profile.mutable_vae_channels()->Add(vae_channels.begin(), vae_channels.end());
  profile.set_vae_scale_factor(1u << (vae_channels.size() - 1));
  profile.set_size_multiple(profile.vae_scale_factor() * downsampling / 2);
  profile.set_latent_channels(4);
  profile.set_native_width(native_edge);
  profile.set_native_height(native_edge);
  return profile;
}

}  // namespace

farm::v1::ModelProfile SdxlProfile() {
  farm::v1::ModelProfile profile =
      Profile({{320, 5, 2, 3, 0, 0}, {640, 10, 2, 3, 2, 6}, {1280, 20, 2, 3, 10, 30}}, {128, 256, 512, 512}, 1024);
  profile.set_text_encoder_parameters(817'720'320);
  profile.set_unet_parameters(2'567'463'684);
  profile.set_vae_parameters(49'490'199);
  profile.set_largest_tensor_parameters(29'491'200);
  profile.set_stored_dtype(farm::v1::FP16);
  profile.set_vae_force_upcast(true);
  profile.set_stored_bytes(6'938'000'000);
  profile.set_cross_attention_dim(2048);
  profile.set_unet_block_parameters(2'558'566'400);
  profile.set_unet_block_scales(39'977'600);
  profile.set_largest_block_parameters(49'152'000);
  return profile;
}

farm::v1::ModelProfile DemoProfile() {
  farm::v1::ModelProfile profile =
      Profile({{64, 2, 2, 3, 0, 0}, {96, 3, 2, 3, 1, 3}, {96, 3, 2, 3, 1, 3}}, {32, 64, 96}, 128);
  profile.set_text_encoder_parameters(720'000);
  profile.set_unet_parameters(6'440'000);
  profile.set_vae_parameters(1'000'000);
  profile.set_stored_dtype(farm::v1::FP16);
  profile.set_cross_attention_dim(192);
  profile.set_unet_block_parameters(6'166'528);
  profile.set_unet_block_scales(110'080);
  profile.set_largest_block_parameters(291'840);
  return profile;
}

farm::v1::ModelProfile TinyProfile() {
  farm::v1::ModelProfile profile =
      Profile({{16, 2, 2, 3, 0, 0}, {32, 2, 2, 3, 2, 6}, {32, 4, 2, 3, 2, 6}}, {16, 16, 16, 16}, 128);
  profile.set_text_encoder_parameters(20'000);
  profile.set_unet_parameters(200'000);
  profile.set_vae_parameters(50'000);
  profile.set_stored_dtype(farm::v1::FP32);
  profile.set_cross_attention_dim(64);
  profile.set_unet_block_parameters(166'400);
  profile.set_unet_block_scales(6'308);
  profile.set_largest_block_parameters(7'936);
  return profile;
}

farm::v1::ModelManifest Manifest(const farm::v1::ModelProfile& profile) {
  farm::v1::ModelManifest manifest;
  manifest.set_name("model");
  manifest.set_digest(std::string(32, 'm'));
  *manifest.mutable_profile() = profile;
  return manifest;
}

farm::v1::DeviceReport Device(farm::v1::Backend backend, uint64_t free_bytes, double tflops) {
  farm::v1::DeviceReport device;
  device.set_backend(backend);
  device.set_name("a test device");
  device.set_total_bytes(free_bytes);
  device.set_free_bytes(free_bytes);
  device.set_unified(backend != farm::v1::CUDA);
  device.set_speed_tflops(tflops);
  device.set_threads(8);
  device.add_dtypes("fp32");
  if (backend != farm::v1::CPU) device.add_dtypes("fp16");
  return device;
}

farm::v1::DeviceReport DeviceOfBudget(farm::v1::Backend backend, uint64_t budget_bytes, double tflops) {
  farm::v1::DeviceReport device = Device(backend, 0, tflops);
  device.set_total_bytes(16'000'000'000);
  device.set_free_bytes(64'000'000'000);  // more than any reserve
  const uint64_t reserve = device.free_bytes() - BudgetBytes(device);
  device.set_free_bytes(budget_bytes + reserve);
  return device;
}

farm::v1::GroupShape Group(uint32_t edge_pixels, uint32_t frames, uint32_t identity_frames, uint32_t steps) {
  farm::v1::GroupShape shape;
  shape.set_width(edge_pixels);
  shape.set_height(edge_pixels);
  shape.set_frames(frames);
  shape.set_steps(steps);
  shape.set_guidance(true);
  shape.set_identity_frames(identity_frames);
  shape.add_token_rate(0.5);
  shape.set_decode(true);
  return shape;
}

const farm::v1::MemoryPlan* Planned(const PlanOrRefusal& result) { return std::get_if<farm::v1::MemoryPlan>(&result); }
const farm::v1::Refusal* Refused(const PlanOrRefusal& result) { return std::get_if<farm::v1::Refusal>(&result); }

farm::v1::Story StoryOf(int characters, const std::vector<std::vector<uint32_t>>& panels) {
  farm::v1::Story story;
  for (int i = 0; i < characters; ++i) {
    farm::v1::Character* character = story.add_characters();
    character->set_name(std::string(1, static_cast<char>('A' + i)));
    character->set_description(absl::StrCat("a person called ", character->name()));
    character->set_key(std::string(16, static_cast<char>(i + 1)));
  }
  farm::v1::Chapter* chapter = story.add_chapters();
  chapter->set_title("The first");
  for (size_t p = 0; p < panels.size(); ++p) {
    farm::v1::Panel* panel = chapter->add_panels();
    panel->set_id(absl::StrCat("p-", p));
    panel->set_prompt(absl::StrCat("prompt ", p));
    panel->set_caption(absl::StrCat("caption ", p));
    panel->mutable_characters()->Add(panels[p].begin(), panels[p].end());
  }
  return story;
}

}  // namespace storyfarm::plan
