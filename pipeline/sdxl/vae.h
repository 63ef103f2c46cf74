// AutoencoderKL's decoder: latents to pictures. (Its encoder, which no render needs, is vae_encoder.h.)
#ifndef STORYFARM_PIPELINE_SDXL_VAE_H_
#define STORYFARM_PIPELINE_SDXL_VAE_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

#include "pipeline/model/config.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

class Vae {
 public:
  // Takes its tensors from `weights`, and accepts the encoder's beside them; the caller asks Weights::Finish
  // afterwards.
  Vae(const model::VaeConfig& config, Weights* weights);
  ~Vae();

  // Latents as the denoising loop leaves them, [B, latent_channels, h, w], any float dtype -> float32 pictures
  // [B, 3, h x factor, w x factor], nominally in [-1, 1]. The scaling (latents / scaling_factor + shift, or mean and
  // std where the config has them) happens here.
  // `tile`: latents an edge of the parts in which the picture is made, so that memory follows the part and not the
  // picture; 0, or no less than both edges: all at once. The picture is the same but for rounding, and takes three to
  // four times the operations (vae_decoder.h).
  at::Tensor Decode(const at::Tensor& latents, int64_t tile = 0) const;

  int64_t factor() const;  // pixels an edge of a latent: 2^(levels - 1)
  const Placement& placement() const;

 private:
  struct Network;
  std::unique_ptr<Network> network_;
};

// round(255 clamp(x / 2 + 1/2, 0, 1)), [B, 3, H, W] -> uint8 [B, H, W, 3], contiguous, on the CPU: what diffusers'
// VaeImageProcessor makes of a picture. NaN becomes 0: the caller checks for it before.
at::Tensor ToRgb8(const at::Tensor& pictures);

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_VAE_H_
