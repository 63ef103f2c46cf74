// A UNet's parts and a forward pass through them. Internal to this folder.
#ifndef STORYFARM_PIPELINE_SDXL_UNET_NETWORK_H_
#define STORYFARM_PIPELINE_SDXL_UNET_NETWORK_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "pipeline/sdxl/embeddings.h"
#include "pipeline/sdxl/freeu.h"
#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/unet.h"
#include "pipeline/sdxl/unet_blocks.h"

namespace storyfarm::sdxl {

// What a forward pass starts from, on the device in the dtype that computes.
struct ForwardStart {
  at::Tensor latents;  // [B, in_channels, h, w], channels last where the placement says so
  at::Tensor time;     // silu of the time embedding plus the embedding of pooled text and sizes, [B, time_embed_dim]
  at::Tensor context;  // encoder hidden states [B, T, cross_attention_dim]
};

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

  ForwardStart Start(const UNetInput& input) const;
};

class UNet::Walk final : public UNetWalk {
 public:
  // `text`: ForwardState::text.
  Walk(Network& net, const ForwardStart& start, const std::vector<KeysValues>* text = nullptr);

  bool done() const override { return next_ == net_.units.size(); }
  const SelfAttentionSite* site() const override { return site_ ? &*site_ : nullptr; }
  const at::Tensor& x() const override { return x_; }
  void Run() override;
  void Attended(at::Tensor y) override;
  at::Tensor TakePrediction() override;

  // On to where it stands in front of a site, or is done. Not `hooked`: self-attention is plain, and it is done.
  void RunToNextSite(bool hooked);

 private:
  Network& net_;
  ForwardState state_;
  size_t next_ = 0;
  std::optional<WeightBlock::Lease> lease_;
  std::optional<SelfAttentionSite> site_;
  at::Tensor x_;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_UNET_NETWORK_H_
