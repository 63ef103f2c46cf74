// UNet2DConditionModel as SDXL's configs use it: predicts the noise (or v) in latents at a timestep, given a prompt.
#ifndef STORYFARM_PIPELINE_SDXL_UNET_H_
#define STORYFARM_PIPELINE_SDXL_UNET_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "pipeline/model/config.h"
#include "pipeline/sdxl/attention.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

// FreeU (Si et al. 2023): backbone factors b and skip factors s of up blocks 0 and 1.
struct FreeU {
  double s1 = 0.6;
  double s2 = 0.4;
  double b1 = 1.1;
  double b2 = 1.2;
  bool operator==(const FreeU&) const = default;
};

struct UNetInput {
  at::Tensor latents;                // [B, in_channels, h, w], scaled as the scheduler says
  double timestep = 0;               // the same for the whole batch; may be a fraction (Karras spacing)
  at::Tensor encoder_hidden_states;  // [B, T, cross_attention_dim]: PromptEmbeds::embeds
  at::Tensor pooled;                 // [B, P]: PromptEmbeds::pooled
  at::Tensor time_ids;               // [B, 6] float32: original H, W, crop top, left, target H, W
};

// A forward pass that its caller runs piece by piece, so that several can go side by side (frames in lock step). Walks
// of one UNet over equal batches stand at the same places after the same number of calls; run in turn, each block of
// weights is asked for once for all of them. The UNet outlives them, and its options stay until they are done.
class UNetWalk {
 public:
  virtual ~UNetWalk() = default;
  virtual bool done() const = 0;
  // Where it stands in front of a self-attention that a hook would compute: then Attended goes on. Null: Run goes on.
  virtual const SelfAttentionSite* site() const = 0;
  // What the hook would be given there, [B, N, C].
  virtual const at::Tensor& x() const = 0;
  virtual void Run() = 0;
  virtual void Attended(at::Tensor y) = 0;
  // Once done: UNet::Forward's result.
  virtual at::Tensor TakePrediction() = 0;
};

class UNetGraphs;

class UNet {
 public:
  // Takes its tensors from `weights`; the caller asks Weights::Finish afterwards.
  UNet(const model::UNetConfig& config, Weights* weights);
  ~UNet();

  // The prediction, [B, out_channels, h, w], in the UNet's dtype. h and w may be odd at any level: up blocks come back
  // to their skip's size. `hook` null: plain self-attention.
  at::Tensor Forward(const UNetInput& input, SelfAttentionHook* hook = nullptr) const;
  // The same, run by the caller.
  std::unique_ptr<UNetWalk> Begin(const UNetInput& input) const;

  // Off where absent; stays set for every later Forward.
  void set_freeu(std::optional<FreeU> freeu);
  // Forward replays what it recorded, where the device can (unet_graphs.h); what that takes of memory stays on the device
  // from one Forward to the next.
  void UseGraphs(bool use);
  // Queries an attention takes at a time; 0: all.
  void set_attention_chunk(int64_t queries);

  // What the weights of its blocks take.
  BlockBytes block_bytes() const;
  // Gives back the buffer through which weights stream, until the next Forward.
  void Park();

  // Where the hook is called, in execution order.
  const std::vector<SelfAttentionLayer>& self_attention_layers() const;
  const Placement& placement() const;

 private:
  friend class UNetGraphs;
  struct Network;
  class Walk;
  std::unique_ptr<Network> network_;
  std::unique_ptr<UNetGraphs> graphs_;  // null: none are used
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_UNET_H_
