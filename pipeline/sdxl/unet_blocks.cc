#include "pipeline/sdxl/unet_blocks.h"

#include "pipeline/sdxl/freeu.h"

namespace storyfarm::sdxl {
namespace {

ResnetOptions ResnetOptionsOf(const model::UNetConfig& config, double output_scale = 1) {
  return {.groups = config.norm_num_groups,
          .eps = config.norm_eps,
          .time_channels = config.time_embed_dim,
          .scale_shift = config.time_scale_shift,
          .output_scale = output_scale};
}

TransformerOptions TransformerOptionsOf(const model::UNetConfig& config, const model::UNetBlock& block, int64_t layers,
                                        const AttentionOptions* attention) {
  return {.channels = block.channels,
          .heads = block.heads,
          .context_channels = block.cross_attention_dim,
          .layers = layers,
          .groups = config.norm_num_groups,
          .linear_projection = config.use_linear_projection,
          .upcast_attention = config.upcast_attention,
          .attention = attention};
}

}  // namespace

DownBlock::DownBlock(const WeightScope& at, const model::UNetConfig& config, const model::UNetBlock& block,
                     int64_t in_channels, bool downsample, const AttentionOptions* attention) {
  for (int64_t i = 0; i < block.resnets; ++i) {
    resnets_.emplace_back((at / "resnets" / i).NewBlock(), i == 0 ? in_channels : block.channels, block.channels,
                          ResnetOptionsOf(config));
    if (block.has_attention()) {
      attentions_.emplace_back(at / "attentions" / i,
                               TransformerOptionsOf(config, block, block.transformer_layers.at(i), attention));
    }
  }
  if (downsample) downsample_.emplace((at / "downsamplers" / 0).NewBlock(), block.channels, config.downsample_padding);
}

at::Tensor DownBlock::operator()(at::Tensor h, const BlockContext& context, Skips& skips) const {
  for (size_t i = 0; i < resnets_.size(); ++i) {
    h = resnets_[i](h, context.time);
    if (!attentions_.empty()) h = attentions_[i](h, context.context, nullptr);
    skips.push_back(h);
  }
  if (downsample_) {
    h = (*downsample_)(h);
    skips.push_back(h);
  }
  return h;
}

MidBlock::MidBlock(const WeightScope& at, const model::UNetConfig& config, const AttentionOptions* attention) {
  const model::UNetBlock& block = config.mid_block;
  // In the order in which they run: weights stream in that of building.
  for (int64_t i = 0; i < block.resnets; ++i) {
    resnets_.emplace_back((at / "resnets" / i).NewBlock(), block.channels, block.channels,
                          ResnetOptionsOf(config, config.mid_block_scale_factor));
    if (i >= static_cast<int64_t>(block.transformer_layers.size())) continue;
    attentions_.emplace_back(
        at / "attentions" / i,
        TransformerOptionsOf(config, block, block.transformer_layers[static_cast<size_t>(i)], attention));
  }
}

at::Tensor MidBlock::operator()(at::Tensor h, const BlockContext& context) const {
  for (size_t i = 0; i < resnets_.size(); ++i) {
    h = resnets_[i](h, context.time);
    if (i < attentions_.size()) h = attentions_[i](h, context.context, nullptr);
  }
  return h;
}

UpBlock::UpBlock(const WeightScope& at, const model::UNetConfig& config, int64_t index, int64_t in_channels,
                 const std::vector<int64_t>& skip_channels, int64_t first_site, const AttentionOptions* attention)
    : index_(index) {
  const model::UNetBlock& block = config.up_blocks.at(index);
  for (int64_t i = 0; i < block.resnets; ++i) {
    const int64_t hidden_channels = i == 0 ? in_channels : block.channels;
    resnets_.emplace_back((at / "resnets" / i).NewBlock(), hidden_channels + skip_channels.at(i), block.channels,
                          ResnetOptionsOf(config));
    if (!block.has_attention()) continue;
    TransformerOptions options = TransformerOptionsOf(config, block, block.transformer_layers.at(i), attention);
    options.first_site = first_site;
    first_site += options.layers;
    attentions_.emplace_back(at / "attentions" / i, options);
  }
  if (index + 1 < static_cast<int64_t>(config.up_blocks.size())) {
    upsample_.emplace((at / "upsamplers" / 0).NewBlock(), block.channels);
  }
}

at::Tensor UpBlock::operator()(at::Tensor h, const BlockContext& context, Skips& skips) const {
  for (size_t i = 0; i < resnets_.size(); ++i) {
    at::Tensor skip = std::move(skips.back());
    skips.pop_back();
    if (context.freeu && index_ < 2) {
      ScaleBackbone(h, index_ == 0 ? context.freeu->b1 : context.freeu->b2);
      skip = (*context.skip_filter)(skip, index_ == 0 ? context.freeu->s1 : context.freeu->s2);
    }
    h = at::cat({h, std::move(skip)}, 1);
    h = resnets_[i](h, context.time);
    if (!attentions_.empty()) h = attentions_[i](h, context.context, context.hook);
  }
  // The next block's skips tell its grid: with odd sizes twice this one's would be one too many.
  if (upsample_) h = (*upsample_)(h, skips.back().size(2), skips.back().size(3));
  return h;
}

}  // namespace storyfarm::sdxl
