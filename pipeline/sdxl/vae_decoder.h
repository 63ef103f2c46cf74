// The VAE's decoder: latents to a picture, whole or in tiles. Internal to this folder.
#ifndef STORYFARM_PIPELINE_SDXL_VAE_DECODER_H_
#define STORYFARM_PIPELINE_SDXL_VAE_DECODER_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "pipeline/model/config.h"
#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/resnet.h"
#include "pipeline/sdxl/vae_blocks.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

// diffusers' Decoder.
struct VaeDecoder {
  // The resnets of one resolution, and what leads to the next finer one.
  struct Level {
    std::vector<ResnetBlock> resnets;
    std::optional<Upsample> upsample;
  };

  VaeDecoder(const WeightScope& at, const model::VaeConfig& config);
  // [B, latent channels, h, w] of the decoder's own scale and dtype -> [B, 3, h x factor, w x factor].
  at::Tensor operator()(const at::Tensor& z) const;

  Conv2d in;
  VaeMidBlock middle;
  std::vector<Level> levels;  // from the latents' grid to the picture's
  GroupNorm norm;
  Conv2d out;
};

// Smaller tiles would be mostly halo, and narrower than the halo of a neighbour.
inline constexpr int64_t kLeastVaeTile = 8;

// The same picture as decoder(z), but for the order in which floats are added, in float32, with the memory of tiles.
//
// Convolutions see a few cells around them, so a tile with a margin (halo) gives the whole picture's values in its
// inside. A group norm sees everything: each one's mean and variance are added up over all tiles before any tile is
// normalised with them. What is known of one norm leads to the next, so a norm costs a sweep over the tiles up to it:
//
//   latents -> conv_in, middle block (attention over all of the grid)            whole, it is small
//   each resnet of a coarser level, the first one behind its upsampling          sweeps: norm 1 | norm 2 | result
//   finest level: upsampling, its resnets, norm and conv_out                     sweeps: 2 a resnet, 1 | picture
//
// Between these segments the map is kept whole; it is overwritten in place where shapes agree. The finest level's own
// maps, and what comes out of an upsampling, are never whole: they are computed again from the map below.
//
// SDXL at 1024 x 1024, float32, tiles of 32 latents: 0.50 GB at most, where the third level's first resnet reads a map
// of 512 channels of 256 x 256 (134 MB) and writes one of 256 of 512 x 512 (268 MB), the largest that is kept; a tile
// there is 136 cells an edge with its halo, 38 MB at 512 channels, and 2.5 of those are alive at once. Tiles of 64:
// 0.99 GB, of 16: 0.43; the whole picture: 3.2. The sweeps and halos make it 37 TFLOP (34 and 41 with the others),
// against 10.5 for the whole picture, and 676 for 50 steps of the UNet with guidance. Keeping maps after every resnet
// would take 20 TFLOP and 1.0 GB; keeping none but the middle block's, 110 TFLOP and still 0.2 GB for a tile.
//
// `tile`: latents an edge of a tile's inside, at least kLeastVaeTile.
at::Tensor DecodeInTiles(const VaeDecoder& decoder, const at::Tensor& z, int64_t tile);

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_VAE_DECODER_H_
