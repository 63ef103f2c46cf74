#include "pipeline/sdxl/unet.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/sdxl/embeddings.h"
#include "pipeline/sdxl/freeu.h"
#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/unet_blocks.h"

namespace storyfarm::sdxl {
namespace {

// Channels of the skips that down blocks make, in order: conv_in's output first.
std::vector<int64_t> SkipChannels(const model::UNetConfig& config) {
  std::vector<int64_t> channels = {config.down_blocks.front().channels};
  for (size_t level = 0; level < config.down_blocks.size(); ++level) {
    const model::UNetBlock& block = config.down_blocks[level];
    channels.insert(channels.end(), block.resnets, block.channels);
    if (level + 1 < config.down_blocks.size()) channels.push_back(block.channels);
  }
  return channels;
}

std::vector<SelfAttentionLayer> SelfAttentionLayers(const model::UNetConfig& config) {
  std::vector<SelfAttentionLayer> layers;
  for (size_t i = 0; i < config.up_blocks.size(); ++i) {
    const model::UNetBlock& block = config.up_blocks[i];
    const int64_t downsampling = int64_t{1} << (config.up_blocks.size() - 1 - i);
    for (size_t j = 0; j < block.transformer_layers.size(); ++j) {
      for (int64_t k = 0; k < block.transformer_layers[j]; ++k) {
        layers.push_back({absl::StrCat("up_blocks.", i, ".attentions.", j, ".transformer_blocks.", k, ".attn1"),
                          block.channels, downsampling});
      }
    }
  }
  return layers;
}

}  // namespace

struct UNet::Network {
  Network(const model::UNetConfig& config, Weights* weights);

  Placement placement;
  std::shared_ptr<WeightStream> stream;
  bool center_input;
  AttentionOptions attention;
  std::vector<SelfAttentionLayer> self_attention_layers;
  std::optional<FreeU> freeu;
  SkipFilter skip_filter;

  Conv2d conv_in;
  Sinusoids time_sinusoids, added_sinusoids;
  EmbeddingMlp time_embedding, added_embedding;
  std::vector<DownBlock> down_blocks;
  std::vector<MidBlock> mid_block;  // one
  std::vector<UpBlock> up_blocks;
  GroupNorm norm_out;
  Conv2d conv_out;

  // silu of the time embedding plus the embedding of pooled text and sizes, [B, time_embed_dim].
  at::Tensor EmbedConditions(const UNetInput& input) const;
};

UNet::Network::Network(const model::UNetConfig& config, Weights* weights)
    : placement(weights->placement()),
      stream(weights->stream()),
      center_input(config.center_input_sample),
      self_attention_layers(SelfAttentionLayers(config)),
      conv_in(WeightScope(weights, "conv_in"), config.in_channels, config.down_blocks.front().channels,
              config.conv_in_kernel, 1, (config.conv_in_kernel - 1) / 2),
      time_sinusoids(config.down_blocks.front().channels, config.flip_sin_to_cos, config.freq_shift, placement.device),
      added_sinusoids(config.addition_time_embed_dim, config.flip_sin_to_cos, config.freq_shift, placement.device),
      time_embedding(WeightScope(weights, "time_embedding"), config.down_blocks.front().channels,
                     config.time_embed_dim),
      added_embedding(WeightScope(weights, "add_embedding"), config.projection_class_embeddings_input_dim,
                      config.time_embed_dim),
      norm_out(WeightScope(weights, "conv_norm_out"), config.norm_num_groups, config.down_blocks.front().channels,
               config.norm_eps),
      conv_out(WeightScope(weights, "conv_out"), config.down_blocks.front().channels, config.out_channels,
               config.conv_out_kernel, 1, (config.conv_out_kernel - 1) / 2) {
  const WeightScope root(weights);
  int64_t channels = config.down_blocks.front().channels;
  for (size_t i = 0; i < config.down_blocks.size(); ++i) {
    down_blocks.emplace_back(root / "down_blocks" / static_cast<int64_t>(i), config, config.down_blocks[i], channels,
                             i + 1 < config.down_blocks.size(), &attention);
    channels = config.down_blocks[i].channels;
  }
  mid_block.emplace_back(root / "mid_block", config, &attention);
  std::vector<int64_t> skips = SkipChannels(config);
  int64_t site = 0;
  for (size_t i = 0; i < config.up_blocks.size(); ++i) {
    const model::UNetBlock& block = config.up_blocks[i];
    const auto taken = static_cast<size_t>(block.resnets);
    const std::vector<int64_t> mine(skips.rbegin(), skips.rbegin() + static_cast<std::ptrdiff_t>(taken));
    skips.resize(skips.size() - taken);
    up_blocks.emplace_back(root / "up_blocks" / static_cast<int64_t>(i), config, static_cast<int64_t>(i), channels,
                           mine, site, &attention);
    for (int64_t layers : block.transformer_layers) site += layers;
    channels = block.channels;
  }
}

at::Tensor UNet::Network::EmbedConditions(const UNetInput& input) const {
  const int64_t batch = input.latents.size(0);
  const auto on_device = at::TensorOptions().dtype(at::kFloat).device(placement.device);
  const at::Tensor time = time_sinusoids(at::full({1}, input.timestep, on_device)).to(placement.dtype);
  const at::Tensor sizes = added_sinusoids(input.time_ids.to(on_device).flatten()).view({batch, -1});
  const at::Tensor added = at::cat({input.pooled.to(placement.device, placement.dtype), sizes.to(placement.dtype)}, -1);
  // The timestep is one for the whole batch: its row of the sum is broadcast.
  at::Tensor sum = added_embedding(added).add_(time_embedding(time));
  return at::silu_(sum);
}

UNet::UNet(const model::UNetConfig& config, Weights* weights) : network_(std::make_unique<Network>(config, weights)) {}
UNet::~UNet() = default;

at::Tensor UNet::Forward(const UNetInput& input, SelfAttentionHook* hook) const {
  const c10::InferenceMode no_gradients;
  Network& net = *network_;
  const Placement& placement = net.placement;
  const BlockContext context = {
      .time = net.EmbedConditions(input),
      .context = input.encoder_hidden_states.to(placement.device, placement.dtype),
      .hook = hook,
      .freeu = net.freeu,
      .skip_filter = &net.skip_filter,
  };
  at::Tensor h = input.latents.to(placement.device, placement.dtype);
  if (placement.channels_last) h = h.contiguous(at::MemoryFormat::ChannelsLast);
  if (net.center_input) h = 2 * h - 1;

  Skips skips;
  h = net.conv_in(h);
  skips.push_back(h);
  for (const DownBlock& block : net.down_blocks) h = block(std::move(h), context, skips);
  h = net.mid_block.front()(std::move(h), context);
  for (const UpBlock& block : net.up_blocks) h = block(std::move(h), context, skips);
  h = net.norm_out(h);
  return net.conv_out(at::silu_(h)).contiguous();
}

void UNet::set_freeu(std::optional<FreeU> freeu) { network_->freeu = freeu; }
void UNet::set_attention_chunk(int64_t queries) { network_->attention.query_chunk = queries; }
BlockBytes UNet::block_bytes() const { return network_->stream->bytes(); }
void UNet::Park() { network_->stream->Park(); }
const std::vector<SelfAttentionLayer>& UNet::self_attention_layers() const { return network_->self_attention_layers; }
const Placement& UNet::placement() const { return network_->placement; }

}  // namespace storyfarm::sdxl
