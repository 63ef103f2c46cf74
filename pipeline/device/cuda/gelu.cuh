#ifndef STORYFARM_PIPELINE_DEVICE_CUDA_GELU_CUH_
#define STORYFARM_PIPELINE_DEVICE_CUDA_GELU_CUH_

#include <cuda_runtime.h>

namespace storyfarm::device {

// x (1 + erf(x / sqrt 2)) / 2 = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2. erfc as 1 / p^16, in the form of Abramowitz and
// Stegun's 7.1.28, with a p of one degree less that was fitted to the result's largest error: 2e-6. One slow
// instruction, and few others: a product's kernel has nothing else to do meanwhile.
__device__ inline float Gelu(float x) {
  const float z = fabsf(x);
  float p = 9.28528640e-05f;
  p = p * z - 9.36262998e-05f;
  p = p * z + 3.45558369e-03f;
  p = p * z + 2.10345853e-02f;
  p = p * z + 4.98891954e-02f;
  p = p * z + 1.0f;
  p *= p;
  p *= p;
  p *= p;
  p *= p;
  float complement;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(complement) : "f"(p));
  return fmaxf(x, 0.0f) - 0.5f * z * complement;
}

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_CUDA_GELU_CUH_
