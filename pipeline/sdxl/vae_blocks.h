// What the VAE's encoder and decoder share: the middle block, and how latents are scaled. Internal to this folder.
#ifndef STORYFARM_PIPELINE_SDXL_VAE_BLOCKS_H_
#define STORYFARM_PIPELINE_SDXL_VAE_BLOCKS_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

#include "pipeline/model/config.h"
#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/resnet.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

inline constexpr double kVaeNormEps = 1e-6;  // diffusers' Encoder and Decoder fix it

inline ResnetOptions VaeResnetOptions(const model::VaeConfig& config) {
  return {.groups = config.norm_num_groups, .eps = kVaeNormEps};
}

// Between the latents of the denoising loop and those of the network, as StableDiffusionXLPipeline has it: mean and std
// where the config has them, and scaling_factor always.
class VaeScaling {
 public:
  VaeScaling(const model::VaeConfig& config, at::Device device);
  at::Tensor FromModel(const at::Tensor& latents) const;  // [B, C, h, w] float32 on the device, to the network's
  at::Tensor ToModel(const at::Tensor& z) const;          // the reverse

 private:
  double factor_;
  std::optional<double> shift_;
  at::Tensor mean_, std_;  // [1, C, 1, 1] float32, where the config has them
};

// Single-head self-attention over the grid, with a group norm before and a residual around it.
class VaeAttention {
 public:
  VaeAttention(const WeightScope& at, int64_t groups, int64_t channels);
  // [B, C, H, W] -> the same shape. `most_scores`: scores (queries x keys) at a time, which bounds memory where a
  // backend materialises them; 0: all at once.
  at::Tensor operator()(const at::Tensor& x, int64_t most_scores) const;

 private:
  GroupNorm norm_;
  Linear q_, k_, v_, out_;
};

// UNetMidBlock2D: resnet, attention, resnet.
class VaeMidBlock {
 public:
  VaeMidBlock(const WeightScope& at, const model::VaeConfig& config);
  // `most_scores`: as VaeAttention's.
  at::Tensor operator()(const at::Tensor& x, int64_t most_scores = 0) const;

 private:
  ResnetBlock first_, second_;
  std::optional<VaeAttention> attention_;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_VAE_BLOCKS_H_
