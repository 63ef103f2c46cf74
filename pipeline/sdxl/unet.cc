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
  std::vector<ForwardUnit> units;  // of all blocks, which are where they stay

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
  for (const DownBlock& block : down_blocks) block.AddUnits(&units);
  mid_block.front().AddUnits(&units);
  for (const UpBlock& block : up_blocks) block.AddUnits(&units);
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

class UNet::Walk final : public UNetWalk {
 public:
  Walk(Network& net, const UNetInput& input) : net_(net) {
    const c10::InferenceMode no_gradients;
    const Placement& placement = net.placement;
    state_.time = net.EmbedConditions(input);
    state_.context = input.encoder_hidden_states.to(placement.device, placement.dtype);
    state_.freeu = net.freeu;
    state_.skip_filter = &net.skip_filter;
    at::Tensor h = input.latents.to(placement.device, placement.dtype);
    if (placement.channels_last) h = h.contiguous(at::MemoryFormat::ChannelsLast);
    if (net.center_input) h = 2 * h - 1;
    state_.h = net.conv_in(h);
    state_.skips.push_back(state_.h);
  }

  bool done() const override { return next_ == net_.units.size(); }
  const SelfAttentionSite* site() const override { return site_ ? &*site_ : nullptr; }
  const at::Tensor& x() const override { return x_; }

  void Run() override {
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

  void Attended(at::Tensor y) override {
    const c10::InferenceMode no_gradients;
    x_.reset();
    site_.reset();
    state_.tokens = net_.units[next_].block->Leave(std::move(state_.tokens), std::move(y), state_.context);
    lease_.reset();
    ++next_;
  }

  at::Tensor TakePrediction() override {
    const c10::InferenceMode no_gradients;
    state_.h = net_.norm_out(state_.h);
    return net_.conv_out(at::silu_(state_.h)).contiguous();
  }

 private:
  Network& net_;
  ForwardState state_;
  size_t next_ = 0;
  std::optional<WeightBlock::Lease> lease_;
  std::optional<SelfAttentionSite> site_;
  at::Tensor x_;
};

std::unique_ptr<UNetWalk> UNet::Begin(const UNetInput& input) const {
  return std::make_unique<Walk>(*network_, input);
}

at::Tensor UNet::Forward(const UNetInput& input, SelfAttentionHook* hook) const {
  Walk walk(*network_, input);
  while (!walk.done()) {
    const SelfAttentionSite* site = walk.site();
    if (site == nullptr) {
      walk.Run();
    } else if (hook != nullptr) {
      walk.Attended(hook->Attend(*site, walk.x()));
    } else {
      walk.Attended(site->attention.Attend(walk.x(), walk.x()));
    }
  }
  return walk.TakePrediction();
}

void UNet::set_freeu(std::optional<FreeU> freeu) { network_->freeu = freeu; }
void UNet::set_attention_chunk(int64_t queries) { network_->attention.query_chunk = queries; }
BlockBytes UNet::block_bytes() const { return network_->stream->bytes(); }
void UNet::Park() { network_->stream->Park(); }
const std::vector<SelfAttentionLayer>& UNet::self_attention_layers() const { return network_->self_attention_layers; }
const Placement& UNet::placement() const { return network_->placement; }

}  // namespace storyfarm::sdxl
