// Embeddings of numbers: timesteps, sizes and crops. Internal to this folder.
#ifndef STORYFARM_PIPELINE_SDXL_EMBEDDINGS_H_
#define STORYFARM_PIPELINE_SDXL_EMBEDDINGS_H_

#include <ATen/ATen.h>

#include <cstdint>

#include "pipeline/sdxl/layers.h"
#include "pipeline/sdxl/weights.h"

namespace storyfarm::sdxl {

// Sinusoids of DDPM (Ho et al. 2020, appendix B) as diffusers' get_timestep_embedding computes them.
class Sinusoids {
 public:
  // `frequency_shift`: config freq_shift; `cosine_first`: config flip_sin_to_cos.
  Sinusoids(int64_t channels, bool cosine_first, double frequency_shift, at::Device device);
  // values [n] float32 -> [n, channels] float32.
  at::Tensor operator()(const at::Tensor& values) const;

 private:
  int64_t channels_;
  bool cosine_first_;
  at::Tensor frequencies_;  // [channels / 2]
};

// TimestepEmbedding: linear, silu, linear.
class EmbeddingMlp {
 public:
  EmbeddingMlp(const WeightScope& at, int64_t in, int64_t out);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  Linear linear1_, linear2_;
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_EMBEDDINGS_H_
