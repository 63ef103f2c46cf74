// FreeU (Si et al. 2023, "Free Lunch in Diffusion U-Net") as diffusers 0.42.1's apply_freeu has it. Internal to this
// folder.
#ifndef STORYFARM_PIPELINE_SDXL_FREEU_H_
#define STORYFARM_PIPELINE_SDXL_FREEU_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <utility>

namespace storyfarm::sdxl {

// Scales the part of a skip's spectrum that lies at frequencies -1 and 0 of both axes (the shifted 2x2 centre) and
// keeps the real part. Four complex terms of a Fourier series are seven real basis functions, so two small matrix
// products do what two FFTs would.
class SkipFilter {
 public:
  // skip [B, C, H, W] -> the same shape and dtype; computed in float32.
  at::Tensor operator()(const at::Tensor& skip, double scale);

 private:
  // [7 (fewer where an axis has one element), H x W] float32 on the device, scaled so that basis^T basis projects onto
  // the real parts of the four terms.
  const at::Tensor& Basis(int64_t height, int64_t width, at::Device device);

  std::map<std::pair<int64_t, int64_t>, at::Tensor> bases_;  // by grid, a few
};

// The first half of the channels times `factor`, in place: [B, C, H, W].
void ScaleBackbone(at::Tensor& hidden, double factor);

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_FREEU_H_
