// What kernels have in common: eight elements at a time, and rows in warps.
#ifndef STORYFARM_PIPELINE_DEVICE_CUDA_VECTOR_CUH_
#define STORYFARM_PIPELINE_DEVICE_CUDA_VECTOR_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "pipeline/device/cuda/kernels.h"

namespace storyfarm::device {

inline constexpr int kThreads = 512;  // of a block that works on images, at most
inline constexpr int kWarp = 32;
inline constexpr int kRowsABlock = 4;  // where a warp works on a row

__device__ inline float ToFloat(__half x) { return __half2float(x); }
__device__ inline float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }
template <typename T>
__device__ inline T FromFloat(float x);
template <>
__device__ inline __half FromFloat<__half>(float x) { return __float2half_rn(x); }
template <>
__device__ inline __nv_bfloat16 FromFloat<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }

// Eight elements as they lie in memory: one access of 16 bytes. Loads come before the stores of the same thread, which
// the compiler can't reorder: what is stored might be what is loaded.
using Raw = uint4;
inline constexpr int kInFlight = 4;  // loads
template <typename T>
__device__ inline Raw LoadRaw(const T* from) { return *reinterpret_cast<const Raw*>(from); }

// And as numbers.
template <typename T>
struct Vector {
  float at[kVector];

  __device__ static Vector Load(const T* from) { return Of(LoadRaw(from)); }
  __device__ static Vector Of(Raw bits) {
    union {
      Raw bits;
      T elements[kVector];
    } raw;
    raw.bits = bits;
    Vector v;
#pragma unroll
    for (int i = 0; i < kVector; ++i) v.at[i] = ToFloat(raw.elements[i]);
    return v;
  }
  __device__ void Store(T* to) const {
    union {
      Raw bits;
      T elements[kVector];
    } raw;
#pragma unroll
    for (int i = 0; i < kVector; ++i) raw.elements[i] = FromFloat<T>(at[i]);
    *reinterpret_cast<Raw*>(to) = raw.bits;
  }
  __device__ void Add(const Vector& other) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) at[i] += other.at[i];
  }
};

inline bool Fits(int channels) { return channels > 0 && channels % kVector == 0 && channels <= kMostChannels; }

}  // namespace storyfarm::device

#endif  // STORYFARM_PIPELINE_DEVICE_CUDA_VECTOR_CUH_
