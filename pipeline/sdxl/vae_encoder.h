// The VAE's encoder: pictures to latents.
#ifndef STORYFARM_PIPELINE_SDXL_VAE_ENCODER_H_
#define STORYFARM_PIPELINE_SDXL_VAE_ENCODER_H_

#include <ATen/ATen.h>

#include <memory>

#include "pipeline/model/config.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

class VaeEncoder {
 public:
  // Takes its tensors from `weights`, and accepts the decoder's beside them; the caller asks Weights::Finish
  // afterwards.
  VaeEncoder(const model::VaeConfig& config, Weights* weights);
  ~VaeEncoder();

  // Pictures [B, 3, H, W] in [-1, 1], H and W multiples of the factor -> the posterior's mean, scaled as the denoising
  // loop expects latents, float32 [B, latent_channels, H / factor, W / factor].
  at::Tensor Encode(const at::Tensor& pictures) const;

 private:
  struct Network;
  std::unique_ptr<Network> network_;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_VAE_ENCODER_H_
