#include "pipeline/model/profile.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "pipeline/model/int8.h"

namespace storyfarm::model {
namespace {

struct WeightCount {
  uint64_t parameters = 0;
  uint64_t block_parameters = 0;
  uint64_t block_scales = 0;
  std::map<std::string, uint64_t, std::less<>> blocks;  // parameters by block
  uint64_t largest = 0;
  uint64_t file_bytes = 0;
  TensorType main_type = TensorType::kF32;
};

// Numbers that aren't parameters (position_ids) are integers.
bool IsFloat(TensorType type) {
  return type == TensorType::kF16 || type == TensorType::kBF16 || type == TensorType::kF32 || type == TensorType::kF64;
}

// No render loads it.
bool IsOfVaeEncoder(std::string_view component, std::string_view tensor) {
  return component == "vae" && (tensor.starts_with("encoder.") || tensor.starts_with("quant_conv."));
}

// The block of the UNet that a tensor belongs to, as pipeline/sdxl cuts it: a resnet, a transformer's block or
// projection, a resampling. Empty for the tensors that always stay: those of no block, norms and biases.
std::string_view BlockOf(const TensorInfo& tensor) {
  const std::string_view name = tensor.name;
  if (tensor.shape.size() < 2 || !name.ends_with(".weight")) return "";
  if (!name.starts_with("down_blocks.") && !name.starts_with("mid_block.") && !name.starts_with("up_blocks.")) return "";
  for (const std::string_view part : {".resnets.", ".transformer_blocks.", ".downsamplers.", ".upsamplers."}) {
    const size_t at = name.find(part);
    if (at != std::string_view::npos) return name.substr(0, name.find('.', at + part.size()));
  }
  for (const std::string_view part : {".proj_in", ".proj_out"}) {
    const size_t at = name.find(part);
    if (at != std::string_view::npos) return name.substr(0, at + part.size());
  }
  return "";
}

void CountBlock(const TensorInfo& tensor, WeightCount* count) {
  const std::string_view block = BlockOf(tensor);
  if (block.empty() || tensor.shape.front() <= 0) return;
  const uint64_t elements = tensor.elements();
  count->block_parameters += elements;
  const auto of_channel = static_cast<int64_t>(elements) / tensor.shape.front();
  count->block_scales += elements / static_cast<uint64_t>(Int8Group(of_channel));
  count->blocks[std::string(block)] += elements;
}

absl::StatusOr<WeightCount> CountWeights(const ModelFolder& model, std::string_view component) {
  absl::StatusOr<std::vector<std::shared_ptr<const SafetensorsFile>>> files = model.OpenWeights(component);
  if (!files.ok()) return files.status();
  WeightCount count;
  std::map<TensorType, uint64_t> by_type;
  for (const auto& file : *files) {
    count.file_bytes += file->mapping().bytes().size();
    for (const TensorInfo& tensor : file->tensors()) {
      if (!IsFloat(tensor.type) || IsOfVaeEncoder(component, tensor.name)) continue;
      count.parameters += tensor.elements();
      count.largest = std::max(count.largest, tensor.elements());
      by_type[tensor.type] += tensor.elements();
      if (component == "unet") CountBlock(tensor, &count);
    }
  }
  uint64_t most = 0;
  for (const auto& [type, elements] : by_type) {
    if (elements > most) count.main_type = type;
    most = std::max(most, elements);
  }
  return count;
}

std::vector<UNetLevelProfile> Levels(const UNetConfig& unet) {
  std::vector<UNetLevelProfile> levels;
  const size_t count = unet.down_blocks.size();
  for (size_t l = 0; l < count; ++l) {
    const UNetBlock& down = unet.down_blocks[l];
    const UNetBlock& up = unet.up_blocks[count - 1 - l];
    UNetLevelProfile level;
    level.downsampling = uint32_t{1} << l;
    level.channels = static_cast<uint32_t>(down.channels);
    level.heads = static_cast<uint32_t>(down.heads);
    level.resnets_down = static_cast<uint32_t>(down.resnets);
    level.resnets_up = static_cast<uint32_t>(up.resnets);
    int64_t most = 0;
    for (int64_t layers : down.transformer_layers) most = std::max(most, layers);
    for (int64_t layers : up.transformer_layers) {
      most = std::max(most, layers);
      level.csa_layers += static_cast<uint32_t>(layers);
    }
    if (l + 1 == count) {
      for (int64_t layers : unet.mid_block.transformer_layers) most = std::max(most, layers);
    }
    level.transformer_layers = static_cast<uint32_t>(most);
    levels.push_back(level);
  }
  return levels;
}

// What must agree between the parts, told from the configs.
absl::Status CheckParts(const UNetConfig& unet, const VaeConfig& vae, const ClipTextConfig& first,
                        const ClipTextConfig& second) {
  if (unet.in_channels != vae.latent_channels || unet.out_channels != vae.latent_channels) {
    return absl::InvalidArgumentError(absl::StrCat("unet/config.json: the UNet goes from ", unet.in_channels, " to ",
                                                   unet.out_channels, " channels, the VAE's latents have ",
                                                   vae.latent_channels,
                                                   ". Inpainting and other variants are not supported."));
  }
  if (!second.projection_dim.has_value()) {
    return absl::InvalidArgumentError(
        "text_encoder_2/config.json: SDXL's second text encoder is a CLIPTextModelWithProjection; architectures says "
        "otherwise.");
  }
  const int64_t text_width = first.hidden_size + second.hidden_size;
  for (const std::vector<UNetBlock>* blocks : {&unet.down_blocks, &unet.up_blocks}) {
    for (const UNetBlock& block : *blocks) {
      if (block.has_attention() && block.cross_attention_dim != text_width) {
        return absl::InvalidArgumentError(absl::StrCat("unet/config.json: cross_attention_dim is ",
                                                       block.cross_attention_dim, ", the text encoders give ",
                                                       first.hidden_size, " + ", second.hidden_size, "."));
      }
    }
  }
  const int64_t pooled = unet.projection_class_embeddings_input_dim - 6 * unet.addition_time_embed_dim;
  if (pooled != *second.projection_dim) {
    return absl::InvalidArgumentError(absl::StrCat("unet/config.json: projection_class_embeddings_input_dim leaves ",
                                                   pooled, " numbers for the pooled text, text_encoder_2 gives ",
                                                   *second.projection_dim,
                                                   ". SDXL's refiner, which has 5 time ids, is not supported."));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelProfile> ProfileModel(const ModelFolder& model) {
  absl::StatusOr<UNetConfig> unet = model.UNet();
  if (!unet.ok()) return unet.status();
  absl::StatusOr<VaeConfig> vae = model.Vae();
  if (!vae.ok()) return vae.status();
  absl::StatusOr<ClipTextConfig> first = model.TextEncoder("text_encoder");
  if (!first.ok()) return first.status();
  absl::StatusOr<ClipTextConfig> second = model.TextEncoder("text_encoder_2");
  if (!second.ok()) return second.status();
  if (absl::Status parts = CheckParts(*unet, *vae, *first, *second); !parts.ok()) return parts;

  ModelProfile profile;
  const std::pair<const char*, uint64_t*> components[] = {{"text_encoder", &profile.text_encoder_parameters},
                                                          {"text_encoder_2", &profile.text_encoder_parameters},
                                                          {"unet", &profile.unet_parameters},
                                                          {"vae", &profile.vae_parameters}};
  for (const auto& [component, parameters] : components) {
    absl::StatusOr<WeightCount> count = CountWeights(model, component);
    if (!count.ok()) return count.status();
    *parameters += count->parameters;
    profile.largest_tensor_parameters = std::max(profile.largest_tensor_parameters, count->largest);
    profile.stored_bytes += count->file_bytes;
    if (std::string_view(component) != "unet") continue;
    profile.stored_type = count->main_type;
    profile.unet_block_parameters = count->block_parameters;
    profile.unet_block_scales = count->block_scales;
    for (const auto& [block, elements] : count->blocks) {
      profile.largest_block_parameters = std::max(profile.largest_block_parameters, elements);
    }
  }
  if (profile.unet_parameters == 0) return absl::InvalidArgumentError("unet: its weight files hold no float tensor.");

  profile.vae_scale_factor = static_cast<uint32_t>(vae->scale_factor());
  profile.latent_channels = static_cast<uint32_t>(vae->latent_channels);
  profile.native_width = static_cast<uint32_t>(unet->sample_width * vae->scale_factor());
  profile.native_height = static_cast<uint32_t>(unet->sample_height * vae->scale_factor());
  profile.vae_force_upcast = vae->force_upcast;
  profile.levels = Levels(*unet);
  for (int64_t channels : vae->block_out_channels) profile.vae_channels.push_back(static_cast<uint32_t>(channels));
  profile.size_multiple = static_cast<uint32_t>(vae->scale_factor() * unet->total_downsampling());
  profile.cross_attention_dim = static_cast<uint32_t>(first->hidden_size + second->hidden_size);
  return profile;
}

}  // namespace storyfarm::model
