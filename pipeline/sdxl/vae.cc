#include "pipeline/sdxl/vae.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/resnet.h"

namespace storyfarm::sdxl {
namespace {

constexpr double kNormEps = 1e-6;  // diffusers' Encoder and Decoder fix it
constexpr int64_t kPictureChannels = 3;

// Single-head self-attention over the grid, with a group norm before and a residual around it.
class VaeAttention {
 public:
  VaeAttention(const WeightScope& at, int64_t groups, int64_t channels)
      : norm_(at / "group_norm", groups, channels, kNormEps) {
    // diffusers before 0.18 named the projections otherwise; VAEs saved then are still passed around.
    const bool old_names = at.Has("query.weight");
    q_ = Linear(at / (old_names ? "query" : "to_q"), channels, channels);
    k_ = Linear(at / (old_names ? "key" : "to_k"), channels, channels);
    v_ = Linear(at / (old_names ? "value" : "to_v"), channels, channels);
    out_ = Linear(at / (old_names ? "proj_attn" : "to_out.0"), channels, channels);
  }

  at::Tensor operator()(const at::Tensor& x) const {
    const at::Tensor tokens = norm_(x).flatten(2).transpose(1, 2);  // [B, H x W, C]
    auto one_head = [](const at::Tensor& y) { return y.unsqueeze(1); };
    const at::Tensor attended =
        at::scaled_dot_product_attention(one_head(q_(tokens)), one_head(k_(tokens)), one_head(v_(tokens)));
    return x + out_(attended.squeeze(1)).transpose(1, 2).view_as(x);
  }

 private:
  GroupNorm norm_;
  Linear q_, k_, v_, out_;
};

// UNetMidBlock2D: resnet, attention, resnet.
class VaeMidBlock {
 public:
  VaeMidBlock(const WeightScope& at, const ResnetOptions& options, int64_t channels, bool attention)
      : first_(at / "resnets" / 0, channels, channels, options),
        second_(at / "resnets" / 1, channels, channels, options) {
    if (attention) attention_.emplace(at / "attentions" / 0, options.groups, channels);
  }
  at::Tensor operator()(const at::Tensor& x) const {
    at::Tensor h = first_(x, {});
    if (attention_) h = (*attention_)(h);
    return second_(h, {});
  }

 private:
  ResnetBlock first_, second_;
  std::optional<VaeAttention> attention_;
};

// The resnets of one resolution and what leads to the next.
struct Level {
  std::vector<ResnetBlock> resnets;
  std::optional<Downsample> downsample;
  std::optional<Upsample> upsample;
};

ResnetOptions ResnetOptionsOf(const model::VaeConfig& config) {
  return {.groups = config.norm_num_groups, .eps = kNormEps};
}

class Encoder {
 public:
  Encoder(const WeightScope& at, const model::VaeConfig& config)
      : in_(at / "conv_in", config.in_channels, config.block_out_channels.front(), 3, 1, 1),
        middle_(at / "mid_block", ResnetOptionsOf(config), config.block_out_channels.back(),
                config.mid_block_add_attention),
        norm_(at / "conv_norm_out", config.norm_num_groups, config.block_out_channels.back(), kNormEps),
        out_(at / "conv_out", config.block_out_channels.back(), 2 * config.latent_channels, 3, 1, 1) {
    int64_t channels = config.block_out_channels.front();
    for (size_t i = 0; i < config.block_out_channels.size(); ++i) {
      const WeightScope block = at / "down_blocks" / static_cast<int64_t>(i);
      const int64_t out = config.block_out_channels[i];
      Level& level = levels_.emplace_back();
      for (int64_t j = 0; j < config.layers_per_block; ++j) {
        level.resnets.emplace_back(block / "resnets" / j, j == 0 ? channels : out, out, ResnetOptionsOf(config));
      }
      if (i + 1 < config.block_out_channels.size()) level.downsample.emplace(block / "downsamplers" / 0, out, 0);
      channels = out;
    }
  }

  at::Tensor operator()(const at::Tensor& x) const {
    at::Tensor h = in_(x);
    for (const Level& level : levels_) {
      for (const ResnetBlock& resnet : level.resnets) h = resnet(h, {});
      if (level.downsample) h = (*level.downsample)(h);
    }
    h = norm_(middle_(h));
    return out_(at::silu_(h));
  }

 private:
  Conv2d in_;
  std::vector<Level> levels_;
  VaeMidBlock middle_;
  GroupNorm norm_;
  Conv2d out_;
};

class Decoder {
 public:
  Decoder(const WeightScope& at, const model::VaeConfig& config)
      : in_(at / "conv_in", config.latent_channels, config.block_out_channels.back(), 3, 1, 1),
        middle_(at / "mid_block", ResnetOptionsOf(config), config.block_out_channels.back(),
                config.mid_block_add_attention),
        norm_(at / "conv_norm_out", config.norm_num_groups, config.block_out_channels.front(), kNormEps),
        out_(at / "conv_out", config.block_out_channels.front(), config.out_channels, 3, 1, 1) {
    int64_t channels = config.block_out_channels.back();
    const size_t levels = config.block_out_channels.size();
    for (size_t i = 0; i < levels; ++i) {
      const WeightScope block = at / "up_blocks" / static_cast<int64_t>(i);
      const int64_t out = config.block_out_channels[levels - 1 - i];
      Level& level = levels_.emplace_back();
      for (int64_t j = 0; j <= config.layers_per_block; ++j) {
        level.resnets.emplace_back(block / "resnets" / j, j == 0 ? channels : out, out, ResnetOptionsOf(config));
      }
      if (i + 1 < levels) level.upsample.emplace(block / "upsamplers" / 0, out);
      channels = out;
    }
  }

  at::Tensor operator()(const at::Tensor& z) const {
    at::Tensor h = middle_(in_(z));
    for (const Level& level : levels_) {
      for (const ResnetBlock& resnet : level.resnets) h = resnet(h, {});
      if (level.upsample) h = (*level.upsample)(h, 2 * h.size(2), 2 * h.size(3));
    }
    h = norm_(h);
    return out_(at::silu_(h));
  }

 private:
  Conv2d in_;
  VaeMidBlock middle_;
  std::vector<Level> levels_;
  GroupNorm norm_;
  Conv2d out_;
};

// Fades from the last `extent` lines of `before` into the first ones of `after`, in place, along axis `dim`.
void BlendEdge(const at::Tensor& before, at::Tensor& after, int64_t dim, int64_t extent) {
  extent = std::min({extent, before.size(dim), after.size(dim)});
  std::vector<int64_t> shape(4, 1);
  shape[static_cast<size_t>(dim)] = extent;
  const at::Tensor weight = (at::arange(extent, after.options()) / static_cast<double>(extent)).view(shape);
  at::Tensor edge = after.narrow(dim, 0, extent);
  edge.mul_(weight).add_(before.narrow(dim, before.size(dim) - extent, extent) * (1 - weight));
}

}  // namespace

struct Vae::Network {
  Network(const model::VaeConfig& config, Weights* weights);

  // One tile or a whole picture: latents of the decoder's own scale, in its dtype -> float32 picture.
  at::Tensor DecodeTile(const at::Tensor& z) const;
  at::Tensor DecodeTiled(const at::Tensor& z, int64_t tile, int64_t overlap) const;

  model::VaeConfig config;
  Placement placement;
  Encoder encoder;
  Decoder decoder;
  std::optional<Conv2d> quant_conv, post_quant_conv;
  at::Tensor latents_mean, latents_std;  // [1, C, 1, 1] float32, where the config has them
};

Vae::Network::Network(const model::VaeConfig& vae_config, Weights* weights)
    : config(vae_config),
      placement(weights->placement()),
      encoder(WeightScope(weights, "encoder"), config),
      decoder(WeightScope(weights, "decoder"), config) {
  const int64_t channels = config.latent_channels;
  if (config.use_quant_conv) {
    quant_conv.emplace(WeightScope(weights, "quant_conv"), 2 * channels, 2 * channels, 1);
  }
  if (config.use_post_quant_conv)
    post_quant_conv.emplace(WeightScope(weights, "post_quant_conv"), channels, channels, 1);
  if (!config.latents_mean.empty()) {
    auto per_channel = [&](const std::vector<double>& values) {
      return at::tensor(values, at::kDouble).to(at::kFloat).view({1, channels, 1, 1}).to(placement.device);
    };
    latents_mean = per_channel(config.latents_mean);
    latents_std = per_channel(config.latents_std);
  }
}

at::Tensor Vae::Network::DecodeTile(const at::Tensor& z) const {
  at::Tensor h = post_quant_conv ? (*post_quant_conv)(z) : z;
  if (placement.channels_last) h = h.contiguous(at::MemoryFormat::ChannelsLast);
  return decoder(h).to(at::kFloat);
}

// The tiling of diffusers' AutoencoderKL.tiled_decode: tiles start every (tile - overlap) latents, each fades into the
// one above and the one to the left over the overlap. Only one row of tiles is kept at a time.
at::Tensor Vae::Network::DecodeTiled(const at::Tensor& z, int64_t tile, int64_t overlap) const {
  const int64_t height = z.size(2), width = z.size(3), factor = config.scale_factor();
  const int64_t stride = tile - overlap, extent = overlap * factor, kept = stride * factor;
  at::Tensor picture =
      at::empty({z.size(0), config.out_channels, height * factor, width * factor}, z.options().dtype(at::kFloat));
  std::vector<at::Tensor> above;
  for (int64_t y = 0; y < height; y += stride) {
    std::vector<at::Tensor> row;
    for (int64_t x = 0; x < width; x += stride) {
      const at::Tensor latents = z.narrow(2, y, std::min(tile, height - y)).narrow(3, x, std::min(tile, width - x));
      at::Tensor decoded = DecodeTile(latents.contiguous());
      if (!above.empty()) BlendEdge(above[row.size()], decoded, 2, extent);
      if (!row.empty()) BlendEdge(row.back(), decoded, 3, extent);
      const int64_t rows = std::min(kept, decoded.size(2)), columns = std::min(kept, decoded.size(3));
      picture.narrow(2, y * factor, rows)
          .narrow(3, x * factor, columns)
          .copy_(decoded.narrow(2, 0, rows).narrow(3, 0, columns));
      row.push_back(std::move(decoded));
    }
    above = std::move(row);
  }
  return picture;
}

Vae::Vae(const model::VaeConfig& config, Weights* weights) : network_(std::make_unique<Network>(config, weights)) {}
Vae::~Vae() = default;

at::Tensor Vae::Decode(const at::Tensor& latents, VaeTiling tiling) const {
  const c10::InferenceMode no_gradients;
  const Network& net = *network_;
  at::Tensor z = latents.to(net.placement.device, at::kFloat);
  // As StableDiffusionXLPipeline: mean and std where the config has them, and scaling_factor always.
  z = net.latents_mean.defined() ? z * (net.latents_std / net.config.scaling_factor) + net.latents_mean
                                 : z / net.config.scaling_factor;
  if (net.config.shift_factor) z = z + *net.config.shift_factor;
  z = z.to(net.placement.dtype);

  const int64_t tile = tiling.tile;
  if (tile <= 0 || (tile >= z.size(2) && tile >= z.size(3))) return net.DecodeTile(z).contiguous();
  const int64_t overlap = tiling.overlap > 0 ? tiling.overlap : tile / 4;
  TORCH_CHECK(overlap < tile, "VAE tiles of ", tile, " latents cannot overlap by ", overlap);
  return net.DecodeTiled(z, tile, overlap);
}

at::Tensor Vae::Encode(const at::Tensor& pictures) const {
  const c10::InferenceMode no_gradients;
  const Network& net = *network_;
  at::Tensor x = pictures.to(net.placement.device, net.placement.dtype);
  if (net.placement.channels_last) x = x.contiguous(at::MemoryFormat::ChannelsLast);
  at::Tensor moments = net.encoder(x);
  if (net.quant_conv) moments = (*net.quant_conv)(moments);
  at::Tensor z = moments.narrow(1, 0, net.config.latent_channels).to(at::kFloat);
  if (net.config.shift_factor) z = z - *net.config.shift_factor;
  return net.latents_mean.defined() ? (z - net.latents_mean) * (net.config.scaling_factor / net.latents_std)
                                    : z * net.config.scaling_factor;
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
