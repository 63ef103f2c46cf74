#include "pipeline/sdxl/vae_encoder.h"

#include <optional>
#include <vector>

#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/resnet.h"
#include "pipeline/sdxl/vae_blocks.h"

namespace storyfarm::sdxl {
namespace {

// The resnets of one resolution, and what leads to the next coarser one.
struct Level {
  std::vector<ResnetBlock> resnets;
  std::optional<Downsample> downsample;
};

}  // namespace

// diffusers' Encoder.
struct VaeEncoder::Network {
  Network(const model::VaeConfig& config, Weights* weights);

  model::VaeConfig config;
  Placement placement;
  VaeScaling scaling;
  Conv2d in;
  std::vector<Level> levels;
  VaeMidBlock middle;
  GroupNorm norm;
  Conv2d out;
  std::optional<Conv2d> quant_conv;
};

VaeEncoder::Network::Network(const model::VaeConfig& vae_config, Weights* weights)
    : config(vae_config),
      placement(weights->placement()),
      scaling(config, placement.device),
      in(WeightScope(weights, "encoder") / "conv_in", config.in_channels, config.block_out_channels.front(), 3, 1, 1),
      middle(WeightScope(weights, "encoder") / "mid_block", config),
      norm(WeightScope(weights, "encoder") / "conv_norm_out", config.norm_num_groups, config.block_out_channels.back(),
           kVaeNormEps),
      out(WeightScope(weights, "encoder") / "conv_out", config.block_out_channels.back(), 2 * config.latent_channels, 3,
          1, 1) {
  const WeightScope at(weights, "encoder");
  int64_t channels = config.block_out_channels.front();
  for (size_t i = 0; i < config.block_out_channels.size(); ++i) {
    const WeightScope block = at / "down_blocks" / static_cast<int64_t>(i);
    const int64_t own = config.block_out_channels[i];
    Level& level = levels.emplace_back();
    for (int64_t j = 0; j < config.layers_per_block; ++j) {
      level.resnets.emplace_back(block / "resnets" / j, j == 0 ? channels : own, own, VaeResnetOptions(config));
    }
    if (i + 1 < config.block_out_channels.size()) level.downsample.emplace(block / "downsamplers" / 0, own, 0);
    channels = own;
  }
  if (config.use_quant_conv) {
    quant_conv.emplace(WeightScope(weights, "quant_conv"), 2 * config.latent_channels, 2 * config.latent_channels, 1);
  }
  for (const char* others : {"decoder.", "post_quant_conv."}) weights->IgnoreAll(others);
}

VaeEncoder::VaeEncoder(const model::VaeConfig& config, Weights* weights)
    : network_(std::make_unique<Network>(config, weights)) {}
VaeEncoder::~VaeEncoder() = default;

at::Tensor VaeEncoder::Encode(const at::Tensor& pictures) const {
  const c10::InferenceMode no_gradients;
  const Network& net = *network_;
  at::Tensor h = pictures.to(net.placement.device, net.placement.dtype);
  if (net.placement.channels_last) h = h.contiguous(at::MemoryFormat::ChannelsLast);
  h = net.in(h);
  for (const Level& level : net.levels) {
    for (const ResnetBlock& resnet : level.resnets) h = resnet(h, {});
    if (level.downsample) h = (*level.downsample)(h);
  }
  h = net.out(net.norm.Silu(net.middle(h)));
  if (net.quant_conv) h = (*net.quant_conv)(h);
  return net.scaling.ToModel(h.narrow(1, 0, net.config.latent_channels).to(at::kFloat));
}

}  // namespace storyfarm::sdxl
