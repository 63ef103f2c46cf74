#include "pipeline/sdxl/unet.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/sdxl/embeddings.h"
#include "pipeline/sdxl/freeu.h"
#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/unet_blocks.h"
#include "pipeline/sdxl/unet_graphs.h"
#include "pipeline/sdxl/unet_network.h"

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
  for (const DownBlock& block : down_blocks) block.AddUnits(&units);
  mid_block.front().AddUnits(&units);
  for (const UpBlock& block : up_blocks) block.AddUnits(&units);
}

ForwardStart UNet::Network::Start(const UNetInput& input) const {
  const int64_t batch = input.latents.size(0);
  const auto on_device = at::TensorOptions().dtype(at::kFloat).device(placement.device);
  const at::Tensor time = time_sinusoids(at::full({1}, input.timestep, on_device)).to(placement.dtype);
  const at::Tensor sizes = added_sinusoids(input.time_ids.to(on_device).flatten()).view({batch, -1});
  const at::Tensor added = at::cat({input.pooled.to(placement.device, placement.dtype), sizes.to(placement.dtype)}, -1);
  // The timestep is one for the whole batch: its row of the sum is broadcast.
  at::Tensor sum = added_embedding(added).add_(time_embedding(time));
  at::Tensor latents = input.latents.to(placement.device, placement.dtype);
  if (placement.channels_last) latents = latents.contiguous(at::MemoryFormat::ChannelsLast);
  return {std::move(latents), at::silu_(sum), input.encoder_hidden_states.to(placement.device, placement.dtype)};
}

UNet::UNet(const model::UNetConfig& config, Weights* weights) : network_(std::make_unique<Network>(config, weights)) {}
UNet::~UNet() = default;

UNet::Walk::Walk(Network& net, const ForwardStart& start, const std::vector<KeysValues>* text) : net_(net) {
  const c10::InferenceMode no_gradients;
  state_.time = start.time;
  state_.context = start.context;
  state_.text = text;
  state_.freeu = net.freeu;
  state_.skip_filter = &net.skip_filter;
  state_.h = net.conv_in(net.center_input ? 2 * start.latents - 1 : start.latents);
  state_.skips.push_back(state_.h);
}

void UNet::Walk::Run() {
  const c10::InferenceMode no_gradients;
  const ForwardUnit& unit = net_.units[next_];
  if (unit.block == nullptr) {
    unit.run(state_);
    ++next_;
    return;
  }
  const WeightBlock& weights = unit.block->weights();
  lease_.emplace(weights.stream(), weights.number());
  x_ = unit.block->Enter(state_.tokens);
  site_.emplace(SelfAttentionSite{unit.block->site(), state_.h.size(2), state_.h.size(3),
                                  unit.block->self_attention()});
}

void UNet::Walk::Attended(at::Tensor y) {
  const c10::InferenceMode no_gradients;
  x_.reset();
  site_.reset();
  const TransformerBlock& block = *net_.units[next_].block;
  block.Leave(state_.tokens, std::move(y), state_.TextOf(block));
  lease_.reset();
  ++next_;
}

void UNet::Walk::RunToNextSite(bool hooked) {
  while (!done() && !(hooked && site_)) {
    if (site_) {
      Attended(site_->attention(x_));
    } else {
      Run();
    }
  }
}

at::Tensor UNet::Walk::TakePrediction() {
  const c10::InferenceMode no_gradients;
  state_.h = net_.norm_out.Silu(state_.h);
  return net_.conv_out(state_.h).contiguous();
}

std::unique_ptr<UNetWalk> UNet::Begin(const UNetInput& input) const {
  return std::make_unique<Walk>(*network_, network_->Start(input));
}

at::Tensor UNet::Forward(const UNetInput& input, SelfAttentionHook* hook) const {
  const c10::InferenceMode no_gradients;
  const ForwardStart start = network_->Start(input);
  if (graphs_ != nullptr) {
    if (std::optional<at::Tensor> replayed = graphs_->Forward(start, hook)) return *std::move(replayed);
  }
  Walk walk(*network_, start);
  for (walk.RunToNextSite(hook != nullptr); !walk.done(); walk.RunToNextSite(hook != nullptr)) {
    walk.Attended(hook->Attend(*walk.site(), walk.x()));
  }
  return walk.TakePrediction();
}

void UNet::UseGraphs(bool use) {
  if (use == (graphs_ != nullptr)) return;
  graphs_ = use ? UNetGraphs::Create(*network_) : nullptr;
}

void UNet::set_freeu(std::optional<FreeU> freeu) {
  if (graphs_ != nullptr && freeu != network_->freeu) graphs_->Forget();
  network_->freeu = freeu;
}
void UNet::set_attention_chunk(int64_t queries) {
  if (graphs_ != nullptr && queries != network_->attention.query_chunk) graphs_->Forget();
  network_->attention.query_chunk = queries;
}
BlockBytes UNet::block_bytes() const { return network_->stream->bytes(); }
void UNet::Park() { network_->stream->Park(); }
const std::vector<SelfAttentionLayer>& UNet::self_attention_layers() const { return network_->self_attention_layers; }
const Placement& UNet::placement() const { return network_->placement; }

}  // namespace storyfarm::sdxl
