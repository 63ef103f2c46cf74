// AutoencoderKL: latents to pictures and back.
#ifndef STORYFARM_PIPELINE_SDXL_VAE_H_
#define STORYFARM_PIPELINE_SDXL_VAE_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

#include "pipeline/model/config.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

// Decoding in overlapping square tiles, so that memory follows the tile and not the picture, as diffusers'
// AutoencoderKL.tiled_decode does. Neighbours are blended linearly over the overlap. Group norms see one tile at a
// time: where parts of a picture differ, tiles come out with other brightness and colours than the whole picture has,
// the more so the smaller they are. Use the largest tile that fits.
struct VaeTiling {
  int64_t tile = 0;     // latents an edge; 0: the whole picture at once
  int64_t overlap = 0;  // latents shared by neighbours, less than the tile; 0: a quarter of the tile
};

class Vae {
 public:
  // Takes its tensors from `weights`; the caller asks Weights::Finish afterwards.
  Vae(const model::VaeConfig& config, Weights* weights);
  ~Vae();

  // Latents as the denoising loop leaves them, [B, latent_channels, h, w], any float dtype -> float32 pictures
  // [B, 3, h x factor, w x factor], nominally in [-1, 1]. The scaling (latents / scaling_factor + shift, or mean and
  // std where the config has them) happens here.
  at::Tensor Decode(const at::Tensor& latents, VaeTiling tiling = {}) const;

  // Pictures [B, 3, H, W] in [-1, 1], H and W multiples of the factor -> the posterior's mean, scaled as the denoising
  // loop expects latents, float32 [B, latent_channels, H / factor, W / factor].
  at::Tensor Encode(const at::Tensor& pictures) const;

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
