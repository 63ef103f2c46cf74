#include "pipeline/sdxl/vae.h"

#include <optional>

#include "pipeline/sdxl/vae_blocks.h"
#include "pipeline/sdxl/vae_decoder.h"

namespace storyfarm::sdxl {
namespace {

constexpr int64_t kPictureChannels = 3;

}  // namespace

struct Vae::Network {
  Network(const model::VaeConfig& config, Weights* weights);

  model::VaeConfig config;
  Placement placement;
  VaeScaling scaling;
  VaeDecoder decoder;
  std::optional<Conv2d> post_quant_conv;
};

Vae::Network::Network(const model::VaeConfig& vae_config, Weights* weights)
    : config(vae_config),
      placement(weights->placement()),
      scaling(config, placement.device),
      decoder(WeightScope(weights, "decoder"), config) {
  if (config.use_post_quant_conv) {
    post_quant_conv.emplace(WeightScope(weights, "post_quant_conv"), config.latent_channels, config.latent_channels, 1);
  }
  for (const char* others : {"encoder.", "quant_conv."}) weights->IgnoreAll(others);
}

Vae::Vae(const model::VaeConfig& config, Weights* weights) : network_(std::make_unique<Network>(config, weights)) {}
Vae::~Vae() = default;

at::Tensor Vae::Decode(const at::Tensor& latents, int64_t tile) const {
  const c10::InferenceMode no_gradients;
  const Network& net = *network_;
  at::Tensor z = net.scaling.FromModel(latents.to(net.placement.device, at::kFloat)).to(net.placement.dtype);
  if (net.post_quant_conv) z = (*net.post_quant_conv)(z);
  if (net.placement.channels_last) z = z.contiguous(at::MemoryFormat::ChannelsLast);
  if (tile > 0 && (tile < z.size(2) || tile < z.size(3))) return DecodeInTiles(net.decoder, z, tile).contiguous();
  return net.decoder(z).to(at::kFloat).contiguous();
}

int64_t Vae::factor() const { return network_->config.scale_factor(); }
const Placement& Vae::placement() const { return network_->placement; }

at::Tensor ToRgb8(const at::Tensor& pictures) {
  const c10::InferenceMode no_gradients;
  TORCH_CHECK(pictures.dim() == 4 && pictures.size(1) == kPictureChannels, "not RGB pictures: ", pictures.sizes());
  return pictures.to(at::kFloat)
      .div(2)
      .add_(0.5)
      .clamp_(0, 1)
      .mul_(255)
      .round_()
      .nan_to_num_(0)
      .to(at::kByte)
      .permute({0, 2, 3, 1})
      .contiguous()
      .cpu();
}

}  // namespace storyfarm::sdxl
