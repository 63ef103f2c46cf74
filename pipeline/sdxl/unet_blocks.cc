#include "pipeline/sdxl/unet_blocks.h"

#include <utility>

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

void AddResnet(const ResnetBlock& resnet, std::vector<ForwardUnit>* units) {
  units->push_back({[&resnet](ForwardState& s) { s.h = resnet(s.h, s.time); }});
}

void AddTransformer(const Transformer2d& transformer, std::vector<ForwardUnit>* units) {
  units->push_back({[&transformer](ForwardState& s) { s.tokens = transformer.ProjectIn(s.h); }});
  for (const TransformerBlock& block : transformer.blocks()) {
    if (block.site() >= 0) {
      units->push_back({nullptr, &block, &block});
      continue;
    }
    const auto run = [&block](ForwardState& s) {
      const auto lease = block.weights().Hold();
      at::Tensor x = block.Enter(s.tokens);
      at::Tensor y = block.self_attention()(x);
      x.reset();
      block.Leave(s.tokens, std::move(y), s.TextOf(block));
    };
    units->push_back({run, nullptr, &block});
  }
  units->push_back(
      {[&transformer](ForwardState& s) { s.h = transformer.ProjectOut(std::exchange(s.tokens, {}), s.h); }});
}

void AddSkip(std::vector<ForwardUnit>* units) {
  units->push_back({[](ForwardState& s) { s.skips.push_back(s.h); }});
}

}  // namespace

KeysValues ForwardState::TextOf(const TransformerBlock& block) {
  return text != nullptr ? text->at(next_text++) : block.ProjectText(context);
}

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

void DownBlock::AddUnits(std::vector<ForwardUnit>* units) const {
  for (size_t i = 0; i < resnets_.size(); ++i) {
    AddResnet(resnets_[i], units);
    if (!attentions_.empty()) AddTransformer(attentions_[i], units);
    AddSkip(units);
  }
  if (!downsample_) return;
  units->push_back({[&downsample = *downsample_](ForwardState& s) { s.h = downsample(s.h); }});
  AddSkip(units);
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

void MidBlock::AddUnits(std::vector<ForwardUnit>* units) const {
  for (size_t i = 0; i < resnets_.size(); ++i) {
    AddResnet(resnets_[i], units);
    if (i < attentions_.size()) AddTransformer(attentions_[i], units);
  }
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

at::Tensor UpBlock::TakeSkip(ForwardState& s) const {
  at::Tensor skip = std::move(s.skips.back());
  s.skips.pop_back();
  if (s.freeu && index_ < 2) {
    ScaleBackbone(s.h, index_ == 0 ? s.freeu->b1 : s.freeu->b2);
    skip = (*s.skip_filter)(skip, index_ == 0 ? s.freeu->s1 : s.freeu->s2);
  }
  return skip;
}

void UpBlock::AddUnits(std::vector<ForwardUnit>* units) const {
  for (size_t i = 0; i < resnets_.size(); ++i) {
    units->push_back({[this, i](ForwardState& s) {
      at::Tensor skip = TakeSkip(s);
      s.h = resnets_[i](device::Image{std::move(s.h), std::move(skip)}, s.time);
    }});
    if (!attentions_.empty()) AddTransformer(attentions_[i], units);
  }
  if (!upsample_) return;
  units->push_back({[this](ForwardState& s) {
    // The next block's skips tell its grid: with odd sizes twice this one's would be one too many.
    s.h = (*upsample_)(s.h, s.skips.back().size(2), s.skips.back().size(3));
  }});
}

}  // namespace storyfarm::sdxl
