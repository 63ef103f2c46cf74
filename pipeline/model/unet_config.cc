// UNet2DConditionModel's config.json. Meanings follow diffusers 0.42.1, models/unets/unet_2d_condition.py.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/model/config.h"
#include "pipeline/model/json_reader.h"

namespace storyfarm::model {
namespace {

constexpr int64_t kMaxChannels = 1 << 16;
constexpr int64_t kMaxLayers = 64;              // resnets of a block
constexpr int64_t kMaxTransformerLayers = 128;  // SDXL has 10 at most
constexpr size_t kMaxLevels = 8;
constexpr int64_t kDefaultSampleSize = 128;  // StableDiffusionXLPipeline's where the config names none

using Layers = std::vector<std::vector<int64_t>>;  // by block, by resnet

// transformer_layers_per_block and its reverse: a number, a list of numbers, or a list with a list for each block.
// Entry i has `counts[i]` numbers.
std::optional<Layers> ReadTransformerLayers(JsonReader& reader, const char* key, const std::vector<int64_t>& counts) {
  const nlohmann::json* value = reader.Find(key);
  if (value == nullptr) return std::nullopt;
  const auto number = [&](const nlohmann::json& item) -> std::optional<int64_t> {
    if (item.is_number_integer() && item >= 1 && item <= kMaxTransformerLayers) return item.get<int64_t>();
    reader.Invalid(
        key, absl::StrCat("has ", item.dump(), " where a whole number from 1 to ", kMaxTransformerLayers, " belongs"));
    return std::nullopt;
  };
  Layers layers;
  if (value->is_array() && value->size() != counts.size()) {
    reader.Invalid(key, absl::StrCat("has ", value->size(), " entries, and there are ", counts.size(), " blocks"));
    return std::nullopt;
  }
  for (size_t block = 0; block < counts.size(); ++block) {
    const nlohmann::json& entry = value->is_array() ? (*value)[block] : *value;
    std::vector<int64_t> of_block;
    if (entry.is_array()) {
      for (const nlohmann::json& item : entry) {
        const std::optional<int64_t> count = number(item);
        if (!count.has_value()) return std::nullopt;
        of_block.push_back(*count);
      }
      if (static_cast<int64_t>(of_block.size()) != counts[block]) {
        reader.Invalid(key, absl::StrCat("has ", of_block.size(), " entries for block ", block, ", which has ",
                                         counts[block], " resnets"));
        return std::nullopt;
      }
    } else {
      const std::optional<int64_t> count = number(entry);
      if (!count.has_value()) return std::nullopt;
      of_block.assign(static_cast<size_t>(counts[block]), *count);
    }
    layers.push_back(std::move(of_block));
  }
  return layers;
}

bool IsNested(const nlohmann::json* value) {
  return value != nullptr && value->is_array() &&
         std::any_of(value->begin(), value->end(), [](const nlohmann::json& item) { return item.is_array(); });
}

void ReadSampleSize(JsonReader& reader, UNetConfig& config) {
  const nlohmann::json* value = reader.Find("sample_size");
  config.sample_height = config.sample_width = kDefaultSampleSize;
  if (value == nullptr) return;
  if (std::optional<std::vector<int64_t>> size = reader.IntOrInts("sample_size", 2, 1, 1 << 14)) {
    config.sample_height = (*size)[0];
    config.sample_width = (*size)[1];
  }
}

// Which blocks have attention, from their class names.
std::vector<bool> ReadBlockTypes(JsonReader& reader, const char* key, const std::string& plain,
                                 const std::string& with_attention, std::vector<std::string> absent) {
  std::vector<bool> attention;
  for (const std::string& type : reader.Strings(key).value_or(std::move(absent))) {
    if (type != plain && type != with_attention)
      reader.Unsupported(key, type, absl::StrCat(plain, ", ", with_attention));
    attention.push_back(type == with_attention);
  }
  return attention;
}

void RequireWhatIsImplemented(JsonReader& reader) {
  reader.Require("_class_name", {"UNet2DConditionModel"});
  reader.Require("act_fn", {"silu", "swish"});
  reader.Require("mid_block_type", {"UNetMidBlock2DCrossAttn"});
  reader.Require("class_embed_type", {});
  reader.Require("num_class_embeds", {});
  reader.Require("class_embeddings_concat", {false});
  reader.Require("encoder_hid_dim", {});
  reader.Require("encoder_hid_dim_type", {});
  reader.Require("dual_cross_attention", {false});
  reader.Require("cross_attention_norm", {});
  reader.Require("mid_block_only_cross_attention", {false});
  reader.Require("attention_type", {"default"});
  reader.Require("resnet_skip_time_act", {false});
  reader.Require("resnet_out_scale_factor", {1.0});
  reader.Require("resnet_time_scale_shift", {"default", "scale_shift"});
  reader.Require("time_embedding_type", {"positional"});
  reader.Require("time_embedding_act_fn", {});
  reader.Require("timestep_post_act", {});
  reader.Require("time_cond_proj_dim", {});
  const nlohmann::json* only_cross = reader.Find("only_cross_attention");
  if (only_cross != nullptr && only_cross->is_array()) {
    for (const nlohmann::json& item : *only_cross) {
      if (item != false) reader.Unsupported("only_cross_attention", *only_cross, "false");
    }
  } else {
    reader.Require("only_cross_attention", {false});
  }
  const nlohmann::json* addition = reader.Find("addition_embed_type");
  if (addition == nullptr || *addition != "text_time") {
    reader.Unsupported("addition_embed_type", addition == nullptr ? nlohmann::json() : *addition,
                       "\"text_time\", which is SDXL's; this is another kind of model");
  }
}

void CheckBlocks(JsonReader& reader, const UNetConfig& config, const std::vector<UNetBlock>& blocks) {
  for (const UNetBlock& block : blocks) {
    if (block.channels % config.norm_num_groups != 0) {
      reader.Invalid("block_out_channels", absl::StrCat("has ", block.channels, ", which norm_num_groups ",
                                                        config.norm_num_groups, " does not divide"));
    }
    if (block.has_attention() && block.channels % block.heads != 0) {
      reader.Invalid("attention_head_dim", absl::StrCat("asks for ", block.heads, " heads of ", block.channels,
                                                        " channels, which it does not divide"));
    }
  }
}

// What is one number or one switch for the whole UNet. `finest_channels`: of the first level.
void ReadNumbers(JsonReader& reader, const nlohmann::json& object, int64_t finest_channels, UNetConfig& config) {
  config.in_channels = reader.Int("in_channels", 1, kMaxChannels).value_or(4);
  config.out_channels = reader.Int("out_channels", 1, kMaxChannels).value_or(4);
  config.conv_in_kernel = reader.Int("conv_in_kernel", 1, 15).value_or(3);
  config.conv_out_kernel = reader.Int("conv_out_kernel", 1, 15).value_or(3);
  config.downsample_padding = reader.Int("downsample_padding", 0, 1).value_or(1);
  config.center_input_sample = reader.Bool("center_input_sample").value_or(false);
  if (const auto groups = object.find("norm_num_groups"); groups != object.end() && groups->is_null()) {
    reader.Unsupported("norm_num_groups", *groups, "a number of groups");
  }
  config.norm_num_groups = reader.Int("norm_num_groups", 1, kMaxChannels).value_or(32);
  config.norm_eps = reader.Number("norm_eps").value_or(1e-5);
  config.mid_block_scale_factor = reader.Number("mid_block_scale_factor").value_or(1);
  config.time_scale_shift = reader.String("resnet_time_scale_shift").value_or("default") == "scale_shift";
  config.use_linear_projection = reader.Bool("use_linear_projection").value_or(false);
  config.upcast_attention = reader.Bool("upcast_attention").value_or(false);
  config.flip_sin_to_cos = reader.Bool("flip_sin_to_cos").value_or(true);
  config.freq_shift = reader.Number("freq_shift").value_or(0);
  config.time_embed_dim = reader.Int("time_embedding_dim", 1, kMaxChannels).value_or(4 * finest_channels);
  config.addition_time_embed_dim = reader.Int("addition_time_embed_dim", 2, kMaxChannels).value_or(0);
  config.projection_class_embeddings_input_dim =
      reader.Int("projection_class_embeddings_input_dim", 1, kMaxChannels).value_or(0);
  if (config.addition_time_embed_dim < 2 || config.addition_time_embed_dim % 2 != 0) {
    reader.Invalid("addition_time_embed_dim", "must be an even number where addition_embed_type is \"text_time\"");
  }
  if (config.projection_class_embeddings_input_dim <= 6 * config.addition_time_embed_dim) {
    reader.Invalid("projection_class_embeddings_input_dim",
                   "must be larger than 6 x addition_time_embed_dim where addition_embed_type is \"text_time\"");
  }
  if (finest_channels % 2 != 0) reader.Invalid("block_out_channels", "must start with an even number");
  if (config.mid_block_scale_factor == 0) reader.Invalid("mid_block_scale_factor", "must not be 0");
  if (config.conv_in_kernel % 2 == 0) reader.Invalid("conv_in_kernel", "must be odd");
  if (config.conv_out_kernel % 2 == 0) reader.Invalid("conv_out_kernel", "must be odd");
}

}  // namespace

absl::StatusOr<UNetConfig> ParseUNetConfig(std::string_view json, std::string_view file) {
  absl::StatusOr<nlohmann::json> object = ParseJsonObject(json, file);
  if (!object.ok()) return object.status();
  JsonReader reader(*object, file);
  RequireWhatIsImplemented(reader);

  UNetConfig config;
  const std::vector<int64_t> channels =
      reader.Ints("block_out_channels", 1, kMaxChannels).value_or(std::vector<int64_t>{320, 640, 1280, 1280});
  const size_t levels = channels.size();
  if (levels < 1 || levels > kMaxLevels) {
    reader.Invalid("block_out_channels", absl::StrCat("has ", levels, " entries; 1 to ", kMaxLevels, " are possible"));
    return reader.status();
  }
  const std::vector<bool> down_attention =
      ReadBlockTypes(reader, "down_block_types", "DownBlock2D", "CrossAttnDownBlock2D",
                     {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"});
  const std::vector<bool> up_attention =
      ReadBlockTypes(reader, "up_block_types", "UpBlock2D", "CrossAttnUpBlock2D",
                     {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"});
  if (down_attention.size() != levels)
    reader.Invalid("down_block_types", "has not one entry a block_out_channels entry");
  if (up_attention.size() != levels) reader.Invalid("up_block_types", "has not one entry a block_out_channels entry");

  const auto per_level = [&](const char* key, int64_t absent, int64_t maximum) {
    return reader.IntOrInts(key, levels, 1, maximum).value_or(std::vector<int64_t>(levels, absent));
  };
  const std::vector<int64_t> resnets = per_level("layers_per_block", 2, kMaxLayers);
  const std::vector<int64_t> cross_dims = per_level("cross_attention_dim", 1280, kMaxChannels);
  // diffusers' naming: attention_head_dim holds the number of heads (its issue 2011); num_attention_heads, where it is
  // given, means what it says.
  const std::vector<int64_t> head_dims = per_level("attention_head_dim", 8, kMaxChannels);
  const std::vector<int64_t> heads =
      reader.IntOrInts("num_attention_heads", levels, 1, kMaxChannels).value_or(head_dims);

  if (IsNested(reader.Find("transformer_layers_per_block")) &&
      reader.Find("reverse_transformer_layers_per_block") == nullptr) {
    reader.Invalid("transformer_layers_per_block",
                   "has a list for a block, so reverse_transformer_layers_per_block is needed for the up blocks");
  }
  std::vector<int64_t> up_resnets;
  for (auto count = resnets.rbegin(); count != resnets.rend(); ++count) up_resnets.push_back(*count + 1);
  Layers down_layers;
  for (int64_t count : resnets) down_layers.emplace_back(count, 1);
  if (auto given = ReadTransformerLayers(reader, "transformer_layers_per_block", resnets)) down_layers = *given;
  std::optional<Layers> up_layers = ReadTransformerLayers(reader, "reverse_transformer_layers_per_block", up_resnets);
  if (!reader.ok()) return reader.status();
  if (!up_layers.has_value()) {
    up_layers.emplace();
    for (size_t i = 0; i < levels; ++i) up_layers->emplace_back(up_resnets[i], down_layers[levels - 1 - i][0]);
  }

  for (size_t level = 0; level < levels; ++level) {
    UNetBlock down{channels[level], resnets[level], {}, heads[level], cross_dims[level]};
    if (down_attention[level]) down.transformer_layers = down_layers[level];
    config.down_blocks.push_back(std::move(down));
    const size_t mirrored = levels - 1 - level;
    UNetBlock up{channels[mirrored], up_resnets[level], {}, heads[mirrored], cross_dims[mirrored]};
    if (up_attention[level]) up.transformer_layers = (*up_layers)[level];
    config.up_blocks.push_back(std::move(up));
  }
  config.mid_block = {channels.back(), 2, {down_layers.back()[0]}, heads.back(), cross_dims.back()};

  ReadSampleSize(reader, config);
  ReadNumbers(reader, *object, channels[0], config);
  CheckBlocks(reader, config, config.down_blocks);
  CheckBlocks(reader, config, {config.mid_block});
  if (!reader.ok()) return reader.status();
  return config;
}

}  // namespace storyfarm::model
