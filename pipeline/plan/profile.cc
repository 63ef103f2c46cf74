#include "pipeline/plan/profile.h"

namespace storyfarm::plan {
namespace {

farm::v1::Dtype ToMessage(model::TensorType type) {
  switch (type) {
    case model::TensorType::kF32:
      return farm::v1::FP32;
    case model::TensorType::kF16:
      return farm::v1::FP16;
    case model::TensorType::kBF16:
      return farm::v1::BF16;
    default:
      return farm::v1::DTYPE_UNSPECIFIED;
  }
}

}  // namespace

farm::v1::ModelProfile ToMessage(const model::ModelProfile& profile) {
  farm::v1::ModelProfile message;
  message.set_text_encoder_parameters(profile.text_encoder_parameters);
  message.set_unet_parameters(profile.unet_parameters);
  message.set_vae_parameters(profile.vae_parameters);
  message.set_largest_tensor_parameters(profile.largest_tensor_parameters);
  message.set_stored_dtype(ToMessage(profile.stored_type));
  message.set_vae_scale_factor(profile.vae_scale_factor);
  message.set_latent_channels(profile.latent_channels);
  message.set_native_width(profile.native_width);
  message.set_native_height(profile.native_height);
  message.set_vae_force_upcast(profile.vae_force_upcast);
  for (const model::UNetLevelProfile& level : profile.levels) {
    farm::v1::UnetLevel* added = message.add_levels();
    added->set_downsampling(level.downsampling);
    added->set_channels(level.channels);
    added->set_heads(level.heads);
    added->set_resnets_down(level.resnets_down);
    added->set_resnets_up(level.resnets_up);
    added->set_transformer_layers(level.transformer_layers);
    added->set_csa_layers(level.csa_layers);
  }
  message.mutable_vae_channels()->Add(profile.vae_channels.begin(), profile.vae_channels.end());
  message.set_stored_bytes(profile.stored_bytes);
  message.set_size_multiple(profile.size_multiple);
  message.set_cross_attention_dim(profile.cross_attention_dim);
  message.set_unet_block_parameters(profile.unet_block_parameters);
  message.set_unet_block_scales(profile.unet_block_scales);
  message.set_largest_block_parameters(profile.largest_block_parameters);
  return message;
}

}  // namespace storyfarm::plan
