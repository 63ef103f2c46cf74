#ifndef STORYFARM_PIPELINE_DEVICE_CUDA_GELU_CUH_
#define STORYFARM_PIPELINE_DEVICE_CUDA_GELU_CUH_

#include <cuda_runtime.h>

namespace storyfarm::device {

// x (1 + erf(x / sqrt 2)) / 2, erf by Abramowitz and Stegun's 7.1.28: off by 3e-7 at most, with one slow instruction.
__device__ inline float Gelu(float x) {
  constexpr float kSqrtHalf = 0.70710678118654752f;
  const float z = fabsf(x) * kSqrtHalf;
  float root = 0.0000430638f;
  root = root * z + 0.0002765672f;
  root = root * z + 0.0001520143f;
  root = root * z + 0.0092705272f;
  root = root * z + 0.0422820123f;
  root = root * z + 0.0705230784f;
  root = root * z + 1.0f;
  root *= root;
  root *= root;
  root *= root;
  root *= root;
  const float complement = __fdividef(1.0f, root);  // 1 - erf(z)
  return 0.5f * x * (x >= 0 ? 2.0f - complement : complement);
}

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_CUDA_GELU_CUH_
