// What diffusers' and transformers' config files say of a model, with every list filled out and every default in place.
//
// A key whose value changes the computation and which isn't implemented here is an UNIMPLEMENTED error that names file,
// key, value and what is supported. A value that contradicts others or has the wrong type is INVALID_ARGUMENT. Keys
// that can't change an inference (dropout, gradient checkpointing, versions, names of origin) are ignored, and so are
// keys that no class of the supported versions knows: diffusers does the same. Absent keys have diffusers 0.42.1's and
// transformers 5.23's defaults.
#ifndef STORYFARM_PIPELINE_MODEL_CONFIG_H_
#define STORYFARM_PIPELINE_MODEL_CONFIG_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace storyfarm::model {

// One block of the UNet: DownBlock2D, CrossAttnDownBlock2D, UNetMidBlock2DCrossAttn, CrossAttnUpBlock2D or UpBlock2D.
struct UNetBlock {
  int64_t channels = 0;  // of its resnets' outputs
  int64_t resnets = 0;   // layers_per_block, one more in an up block, 2 in the mid block
  // Transformer blocks behind each resnet: one entry for each of `attentions.{i}`, so `resnets` entries in down and up
  // blocks and 1 in the mid block, behind its first resnet. Empty: no attention in this block.
  std::vector<int64_t> transformer_layers;
  int64_t heads = 0;  // attention heads: head size = channels / heads
  int64_t cross_attention_dim = 0;

  bool has_attention() const { return !transformer_layers.empty(); }
};

// UNet2DConditionModel. Blocks in execution order: down_blocks[l] works on the grid h/2^l x w/2^l, up_blocks[0] is the
// coarsest. All but the last down block end with a downsampler, all but the last up block with an upsampler.
struct UNetConfig {
  int64_t in_channels = 4;
  int64_t out_channels = 4;
  int64_t sample_height = 128;  // latents the model was trained at; sample_size
  int64_t sample_width = 128;
  std::vector<UNetBlock> down_blocks;
  UNetBlock mid_block;
  std::vector<UNetBlock> up_blocks;
  int64_t conv_in_kernel = 3;  // padding (k - 1) / 2
  int64_t conv_out_kernel = 3;
  int64_t downsample_padding = 1;
  bool center_input_sample = false;  // input x becomes 2x - 1

  int64_t norm_num_groups = 32;
  double norm_eps = 1e-5;              // of resnets and the last norm; transformers' group norm has 1e-6
  double mid_block_scale_factor = 1;   // the mid block's resnets divide their sum by it
  bool time_scale_shift = false;       // resnet_time_scale_shift: "scale_shift" (true) or "default"
  bool use_linear_projection = false;  // transformers' proj_in, proj_out: Linear (true) or 1x1 Conv2d
  bool upcast_attention = false;       // scores and softmax in float32

  bool flip_sin_to_cos = true;  // timestep embeddings are [cos, sin]
  double freq_shift = 0;
  int64_t time_embed_dim = 0;  // time_embedding_dim, or 4 x the first block's channels
  // addition_embed_type is "text_time".
  int64_t addition_time_embed_dim = 0;                // sinusoidal width of each of the 6 time ids
  int64_t projection_class_embeddings_input_dim = 0;  // add_embedding's input: pooled + 6 x addition_time_embed_dim

  // Width and height in latents must be multiples of this for no block to meet an odd grid: 2^(levels - 1).
  int64_t total_downsampling() const { return int64_t{1} << (down_blocks.size() - 1); }
};

// AutoencoderKL: DownEncoderBlock2D and UpDecoderBlock2D.
struct VaeConfig {
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  int64_t latent_channels = 4;
  std::vector<int64_t> block_out_channels;  // from the picture's grid to the latents'
  int64_t layers_per_block = 1;             // resnets of an encoder block; a decoder block has one more
  int64_t norm_num_groups = 32;             // eps is 1e-6
  double scaling_factor = 0.18215;
  std::optional<double> shift_factor;
  std::vector<double> latents_mean;  // latent_channels entries, or none
  std::vector<double> latents_std;   // present together with latents_mean
  bool force_upcast = true;          // overflows in float16
  bool use_quant_conv = true;
  bool use_post_quant_conv = true;
  bool mid_block_add_attention = true;

  int64_t scale_factor() const { return int64_t{1} << (block_out_channels.size() - 1); }  // pixels a latent's edge
};

enum class Activation { kQuickGelu, kGelu };  // x sigmoid(1.702 x); x Phi(x), with erf

// CLIPTextModel, CLIPTextModelWithProjection.
struct ClipTextConfig {
  int64_t vocab_size = 49408;
  int64_t hidden_size = 512;
  int64_t intermediate_size = 2048;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 8;
  int64_t max_position_embeddings = 77;
  double layer_norm_eps = 1e-5;
  Activation hidden_act = Activation::kQuickGelu;
  int64_t eos_token_id = 49407;  // 2 means: the pooled position is that of the largest id (method.md, transformers)
  std::optional<int64_t> projection_dim;  // of text_projection, without bias; present in CLIPTextModelWithProjection
};

// A scheduler's config, whatever its class: each key as the file says, absent where the file does not name it or says
// null. Defaults differ between classes and are the scheduler's to fill in.
struct SchedulerConfig {
  std::string class_name;  // "EulerDiscreteScheduler"

  std::optional<int64_t> num_train_timesteps;
  std::optional<double> beta_start;
  std::optional<double> beta_end;
  std::optional<std::string> beta_schedule;  // linear, scaled_linear, squaredcos_cap_v2
  std::optional<std::vector<double>> trained_betas;
  std::optional<std::string> prediction_type;   // epsilon, v_prediction, sample
  std::optional<std::string> timestep_spacing;  // leading, trailing, linspace
  std::optional<int64_t> steps_offset;
  std::optional<bool> rescale_betas_zero_snr;
  // DDIM
  std::optional<bool> clip_sample;
  std::optional<double> clip_sample_range;
  std::optional<bool> set_alpha_to_one;
  std::optional<bool> thresholding;
  std::optional<double> dynamic_thresholding_ratio;
  std::optional<double> sample_max_value;
  std::optional<bool> skip_prk_steps;  // PNDM's; published SDXL configs carry it, and no sampler here reads it
  // Euler and DPM++
  std::optional<std::string> interpolation_type;  // linear, log_linear
  std::optional<bool> use_karras_sigmas;
  std::optional<bool> use_exponential_sigmas;
  std::optional<bool> use_beta_sigmas;
  std::optional<double> sigma_min;
  std::optional<double> sigma_max;
  std::optional<std::string> timestep_type;      // discrete, continuous
  std::optional<std::string> final_sigmas_type;  // zero, sigma_min
  // DPM++
  std::optional<int64_t> solver_order;
  std::optional<std::string> algorithm_type;  // dpmsolver++, dpmsolver, sde-dpmsolver++, sde-dpmsolver
  std::optional<std::string> solver_type;     // midpoint, heun
  std::optional<bool> lower_order_final;
  std::optional<bool> euler_at_final;
  std::optional<bool> use_lu_lambdas;
  std::optional<bool> use_flow_sigmas;
  std::optional<double> flow_shift;
  std::optional<double> lambda_min_clipped;  // -infinity is the class's default
  std::optional<std::string> variance_type;
  std::optional<bool> use_dynamic_shifting;
  std::optional<std::string> time_shift_type;

  // This config with the keys of a JSON object replaced; null takes a key away. An empty text changes nothing.
  // INVALID_ARGUMENT: not an object, an unknown key (the known ones are listed), a value of the wrong type. Values are
  // checked for type, finiteness and length only: which are supported depends on the sampler.
  absl::StatusOr<SchedulerConfig> MergeOverrides(std::string_view json) const;
};

// model_index.json
struct ModelIndex {
  std::string class_name;                         // "StableDiffusionXLPipeline"
  std::map<std::string, std::string> components;  // folder -> class, without those that are null
  bool force_zeros_for_empty_prompt = true;
};

// `file` stands in messages: "unet/config.json". At most 1 MiB of JSON, nested at most 32 deep.
absl::StatusOr<UNetConfig> ParseUNetConfig(std::string_view json, std::string_view file);
absl::StatusOr<VaeConfig> ParseVaeConfig(std::string_view json, std::string_view file);
absl::StatusOr<ClipTextConfig> ParseClipTextConfig(std::string_view json, std::string_view file);
absl::StatusOr<SchedulerConfig> ParseSchedulerConfig(std::string_view json, std::string_view file);
absl::StatusOr<ModelIndex> ParseModelIndex(std::string_view json, std::string_view file);

}  // namespace storyfarm::model

#endif  // STORYFARM_PIPELINE_MODEL_CONFIG_H_
