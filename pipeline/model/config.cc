// Configs of the VAE, of CLIP's text models, and model_index.json.
#include "pipeline/model/config.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "pipeline/model/json_reader.h"

namespace storyfarm::model {
namespace {

constexpr int64_t kMaxWidth = 1 << 16;
constexpr int64_t kMaxVocabulary = 1 << 24;
constexpr size_t kMaxVaeLevels = 8;

void RequireAll(JsonReader& reader, const char* key, const std::string& supported, size_t count) {
  const std::vector<std::string> types = reader.Strings(key).value_or(std::vector<std::string>(count, supported));
  for (const std::string& type : types) {
    if (type != supported) reader.Unsupported(key, type, supported);
  }
  if (types.size() != count) reader.Invalid(key, "has not one entry a block_out_channels entry");
}

}  // namespace

absl::StatusOr<VaeConfig> ParseVaeConfig(std::string_view json, std::string_view file) {
  absl::StatusOr<nlohmann::json> object = ParseJsonObject(json, file);
  if (!object.ok()) return object.status();
  JsonReader reader(*object, file);
  reader.Require("_class_name", {"AutoencoderKL"});
  reader.Require("act_fn", {"silu", "swish"});

  VaeConfig config;
  config.block_out_channels = reader.Ints("block_out_channels", 1, kMaxWidth).value_or(std::vector<int64_t>{64});
  const size_t levels = config.block_out_channels.size();
  if (levels < 1 || levels > kMaxVaeLevels) {
    reader.Invalid("block_out_channels",
                   absl::StrCat("has ", levels, " entries; 1 to ", kMaxVaeLevels, " are possible"));
  }
  RequireAll(reader, "down_block_types", "DownEncoderBlock2D", levels);
  RequireAll(reader, "up_block_types", "UpDecoderBlock2D", levels);
  config.in_channels = reader.Int("in_channels", 1, kMaxWidth).value_or(3);
  config.out_channels = reader.Int("out_channels", 1, kMaxWidth).value_or(3);
  config.latent_channels = reader.Int("latent_channels", 1, kMaxWidth).value_or(4);
  config.layers_per_block = reader.Int("layers_per_block", 1, 64).value_or(1);
  config.norm_num_groups = reader.Int("norm_num_groups", 1, kMaxWidth).value_or(32);
  config.scaling_factor = reader.Number("scaling_factor").value_or(0.18215);
  config.shift_factor = reader.Number("shift_factor");
  config.latents_mean = reader.Numbers("latents_mean").value_or(std::vector<double>{});
  config.latents_std = reader.Numbers("latents_std").value_or(std::vector<double>{});
  config.force_upcast = reader.Bool("force_upcast").value_or(true);
  config.use_quant_conv = reader.Bool("use_quant_conv").value_or(true);
  config.use_post_quant_conv = reader.Bool("use_post_quant_conv").value_or(true);
  config.mid_block_add_attention = reader.Bool("mid_block_add_attention").value_or(true);

  if (config.scaling_factor == 0) reader.Invalid("scaling_factor", "must not be 0");
  for (int64_t channels : config.block_out_channels) {
    if (channels % config.norm_num_groups != 0) {
      reader.Invalid("block_out_channels", absl::StrCat("has ", channels, ", which norm_num_groups ",
                                                        config.norm_num_groups, " does not divide"));
    }
  }
  if (config.latents_mean.size() != config.latents_std.size()) {
    reader.Invalid("latents_mean", "and latents_std must come together, one number a latent channel");
  } else if (!config.latents_mean.empty() &&
             config.latents_mean.size() != static_cast<size_t>(config.latent_channels)) {
    reader.Invalid("latents_mean", absl::StrCat("has ", config.latents_mean.size(), " numbers, and there are ",
                                                config.latent_channels, " latent channels"));
  }
  for (double deviation : config.latents_std) {
    if (deviation <= 0) reader.Invalid("latents_std", "must be positive numbers");
  }
  if (!reader.ok()) return reader.status();
  return config;
}

absl::StatusOr<ClipTextConfig> ParseClipTextConfig(std::string_view json, std::string_view file) {
  absl::StatusOr<nlohmann::json> object = ParseJsonObject(json, file);
  if (!object.ok()) return object.status();
  // A whole CLIP's config holds the text model's inside.
  const nlohmann::json* text = &*object;
  if (const auto inner = object->find("text_config"); inner != object->end() && inner->is_object()) text = &*inner;
  JsonReader reader(*text, file);
  JsonReader outer(*object, file);
  outer.Require("model_type", {"clip_text_model", "clip"});

  ClipTextConfig config;
  const std::vector<std::string> classes = outer.Strings("architectures").value_or(std::vector<std::string>{});
  bool projected = false;
  if (!classes.empty()) {
    projected = classes[0] == "CLIPTextModelWithProjection";
    if (!projected && classes[0] != "CLIPTextModel") {
      outer.Unsupported("architectures", classes[0], "CLIPTextModel, CLIPTextModelWithProjection");
    }
  }
  config.vocab_size = reader.Int("vocab_size", 1, kMaxVocabulary).value_or(49408);
  config.hidden_size = reader.Int("hidden_size", 1, kMaxWidth).value_or(512);
  config.intermediate_size = reader.Int("intermediate_size", 1, kMaxWidth).value_or(2048);
  config.num_hidden_layers = reader.Int("num_hidden_layers", 1, 256).value_or(12);
  config.num_attention_heads = reader.Int("num_attention_heads", 1, kMaxWidth).value_or(8);
  config.max_position_embeddings = reader.Int("max_position_embeddings", 2, kMaxWidth).value_or(77);
  config.layer_norm_eps = reader.Number("layer_norm_eps").value_or(1e-5);
  config.eos_token_id = reader.Int("eos_token_id", 0, kMaxVocabulary).value_or(49407);
  const int64_t projection_dim = reader.Int("projection_dim", 1, kMaxWidth).value_or(512);
  if (projected) config.projection_dim = projection_dim;

  const std::string activation = reader.String("hidden_act").value_or("quick_gelu");
  if (activation == "gelu") {
    config.hidden_act = Activation::kGelu;
  } else if (activation != "quick_gelu") {
    reader.Unsupported("hidden_act", activation, "quick_gelu, gelu");
  }
  if (config.hidden_size % config.num_attention_heads != 0) {
    reader.Invalid("hidden_size", absl::StrCat("is ", config.hidden_size, ", which num_attention_heads ",
                                               config.num_attention_heads, " does not divide"));
  }
  if (!outer.ok()) return outer.status();
  if (!reader.ok()) return reader.status();
  return config;
}

absl::StatusOr<ModelIndex> ParseModelIndex(std::string_view json, std::string_view file) {
  absl::StatusOr<nlohmann::json> object = ParseJsonObject(json, file);
  if (!object.ok()) return object.status();
  JsonReader reader(*object, file);
  ModelIndex index;
  index.class_name = reader.String("_class_name").value_or("");
  if (!absl::StartsWith(index.class_name, "StableDiffusionXL")) {
    reader.Unsupported("_class_name", index.class_name,
                       "StableDiffusionXLPipeline: SDXL checkpoints in diffusers' layout");
  }
  index.force_zeros_for_empty_prompt = reader.Bool("force_zeros_for_empty_prompt").value_or(true);
  for (const auto& [name, value] : object->items()) {
    // A component is [library, class]; options are plain values.
    if (!value.is_array() || value.size() != 2 || !value[0].is_string() || !value[1].is_string()) continue;
    index.components[name] = value[1].get<std::string>();
  }
  const std::pair<const char*, std::vector<std::string>> needed[] = {
      {"unet", {"UNet2DConditionModel"}},
      {"vae", {"AutoencoderKL"}},
      {"text_encoder", {"CLIPTextModel"}},
      {"text_encoder_2", {"CLIPTextModelWithProjection"}},
      {"tokenizer", {"CLIPTokenizer", "CLIPTokenizerFast"}},
      {"tokenizer_2", {"CLIPTokenizer", "CLIPTokenizerFast"}},
  };
  for (const auto& [name, classes] : needed) {
    const auto found = index.components.find(name);
    if (found == index.components.end()) {
      reader.Unsupported(name, nullptr, absl::StrCat("a ", classes[0], "; this is not a complete SDXL base model"));
    } else if (std::find(classes.begin(), classes.end(), found->second) == classes.end()) {
      reader.Unsupported(name, found->second, classes[0]);
    }
  }
  if (!reader.ok()) return reader.status();
  return index;
}

}  // namespace storyfarm::model
