#include "pipeline/sdxl/vae_decoder.h"

namespace storyfarm::sdxl {

VaeDecoder::VaeDecoder(const WeightScope& at, const model::VaeConfig& config)
    : in(at / "conv_in", config.latent_channels, config.block_out_channels.back(), 3, 1, 1),
      middle(at / "mid_block", config),
      norm(at / "conv_norm_out", config.norm_num_groups, config.block_out_channels.front(), kVaeNormEps),
      out(at / "conv_out", config.block_out_channels.front(), config.out_channels, 3, 1, 1) {
  int64_t channels = config.block_out_channels.back();
  const size_t count = config.block_out_channels.size();
  for (size_t i = 0; i < count; ++i) {
    const WeightScope block = at / "up_blocks" / static_cast<int64_t>(i);
    const int64_t own = config.block_out_channels[count - 1 - i];
    Level& level = levels.emplace_back();
    for (int64_t j = 0; j <= config.layers_per_block; ++j) {
      level.resnets.emplace_back(block / "resnets" / j, j == 0 ? channels : own, own, VaeResnetOptions(config));
    }
    if (i + 1 < count) level.upsample.emplace(block / "upsamplers" / 0, own);
    channels = own;
  }
}

at::Tensor VaeDecoder::operator()(const at::Tensor& z) const {
  at::Tensor h = middle(in(z));
  for (const Level& level : levels) {
    for (const ResnetBlock& resnet : level.resnets) h = resnet(h, {});
    if (level.upsample) h = (*level.upsample)(h, 2 * h.size(2), 2 * h.size(3));
  }
  return out(norm.Silu(h));
}

}  // namespace storyfarm::sdxl
