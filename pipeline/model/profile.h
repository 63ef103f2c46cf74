// What planning needs to know of a model: counted from configs and safetensors headers alone.
#ifndef STORYFARM_PIPELINE_MODEL_PROFILE_H_
#define STORYFARM_PIPELINE_MODEL_PROFILE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/model/model_folder.h"

namespace storyfarm::model {

// One resolution of the UNet. The fields of farm.v1.UnetLevel.
struct UNetLevelProfile {
  uint32_t downsampling = 1;  // latents a token's edge: 1, 2, 4, ...
  uint32_t channels = 0;
  uint32_t heads = 0;
  uint32_t resnets_down = 0;
  uint32_t resnets_up = 0;
  uint32_t transformer_layers = 0;  // blocks in the largest transformer of this level; 0: no attention here
  uint32_t csa_layers = 0;          // attn1 layers of this level's up block: where identity state lives
};

// The fields of farm.v1.ModelProfile.
struct ModelProfile {
  uint64_t text_encoder_parameters = 0;  // both encoders
  uint64_t unet_parameters = 0;
  uint64_t vae_parameters = 0;  // of what decodes
  uint64_t largest_tensor_parameters = 0;
  TensorType stored_type = TensorType::kF32;  // of most of the UNet's parameters: kF32, kF16 or kBF16
  uint32_t vae_scale_factor = 8;              // pixels a latent's edge
  uint32_t latent_channels = 4;
  uint32_t native_width = 1024;  // pixels
  uint32_t native_height = 1024;
  bool vae_force_upcast = true;
  std::vector<UNetLevelProfile> levels;  // from the finest grid down
  std::vector<uint32_t> vae_channels;    // block_out_channels
  uint64_t stored_bytes = 0;             // of all weight files
  uint32_t size_multiple = 8;  // widths and heights must be multiples of this many pixels, so that no grid is odd
  uint32_t cross_attention_dim = 2048;
  // Of the UNet: what stays on the device or streams, block by block, and may be rounded to int8.
  uint64_t unet_block_parameters = 0;     // matrices and kernels of its blocks
  uint64_t unet_block_scales = 0;         // that those have in int8
  uint64_t largest_block_parameters = 0;
};

// Errors as ModelFolder's; also where encoders and UNet don't fit together (cross_attention_dim is not the sum of the
// encoders' widths, UNet and VAE have different latent channels).
absl::StatusOr<ModelProfile> ProfileModel(const ModelFolder& model);

}  // namespace storyfarm::model

#endif  // STORYFARM_PIPELINE_MODEL_PROFILE_H_
