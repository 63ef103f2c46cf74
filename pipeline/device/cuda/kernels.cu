#include "pipeline/device/cuda/kernels.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace {

constexpr int kThreads = 512;        // of a block that works on images, at most
constexpr int kRowsAThread = 4;      // of a slice, at least: less would be mostly the sums at its end
constexpr int kMostBlocks = 264;     // of all images: two to a multiprocessor of the largest cards; each merges all slices
constexpr int kWarp = 32;
constexpr int kRowsABlock = 4;  // rows a block, a warp each

__device__ inline float ToFloat(__half x) { return __half2float(x); }
__device__ inline float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }
template <typename T>
__device__ inline T FromFloat(float x);
template <>
__device__ inline __half FromFloat<__half>(float x) { return __float2half_rn(x); }
template <>
__device__ inline __nv_bfloat16 FromFloat<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }

// Eight elements as they lie in memory: one access of 16 bytes. Loads come before the stores of the same thread, which the
// compiler can't reorder: what is stored might be what is loaded.
using Raw = uint4;
constexpr int kInFlight = 4;  // loads
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

// How an image is cut: blocks of `vectors` x `lanes` threads, each block a slice of the cells.
struct Cut {
  int vectors, lanes, slices, cells_a_slice;
};

__host__ Cut CutOf(int batch, int cells, int channels) {
  Cut cut;
  cut.vectors = channels / kVector;
  cut.lanes = cut.vectors >= kThreads ? 1 : kThreads / cut.vectors;
  const int at_once = cut.lanes * kRowsAThread;
  cut.slices = (cells + at_once - 1) / at_once;
  const int most = kMostBlocks / batch > 1 ? kMostBlocks / batch : 1;
  if (cut.slices > most) cut.slices = most;
  cut.cells_a_slice = (cells + cut.slices - 1) / cut.slices;
  cut.slices = (cells + cut.cells_a_slice - 1) / cut.cells_a_slice;
  return cut;
}

// Mean and sum of squared distances from it, of so many numbers (Chan, Golub, LeVeque 1979).
struct Moments {
  float count, mean, squares;

  __device__ void Merge(const Moments& other) {
    const float total = count + other.count;
    if (total == 0) return;
    const float delta = other.mean - mean;
    mean += delta * (other.count / total);
    squares += other.squares + delta * delta * (count * other.count / total);
    count = total;
  }
};

// Moments of each group over a slice of an image: grid (slices, batch), block (vectors, lanes).
template <typename T>
__global__ void SliceMoments(StoryfarmGroupNorm call, Cut cut) {
  extern __shared__ float shared[];  // [2, lanes, channels]: sums, and squares, of distances from a pivot
  const int channels = call.channels;
  const int channel = threadIdx.x * kVector, lane = threadIdx.y, image = blockIdx.y;
  const int first = blockIdx.x * cut.cells_a_slice;
  const int end = min(first + cut.cells_a_slice, call.cells);
  const T* x = static_cast<const T*>(call.x) + static_cast<long>(image) * call.cells * channels + channel;
  // The distances of a channel's values from one of them are small where its values are large and alike.
  const Vector<T> pivot = Vector<T>::Load(x + static_cast<long>(first) * channels);
  float sums[kVector] = {}, squares[kVector] = {};
#pragma unroll 4
  for (int cell = first + lane; cell < end; cell += cut.lanes) {
    const Vector<T> v = Vector<T>::Load(x + static_cast<long>(cell) * channels);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float d = v.at[i] - pivot.at[i];
      sums[i] += d;
      squares[i] += d * d;
    }
  }
  float* lane_sums = shared + lane * channels + channel;
  float* lane_squares = lane_sums + cut.lanes * channels;
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    lane_sums[i] = sums[i];
    lane_squares[i] = squares[i];
  }
  __syncthreads();
  // Of each channel, into the first lane's place.
  const float count = static_cast<float>(end - first);
  if (lane == 0) {
    for (int other = 1; other < cut.lanes; ++other) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        sums[i] += lane_sums[other * channels + i];
        squares[i] += lane_squares[other * channels + i];
      }
    }
    const T* shift = call.shift == nullptr
                         ? nullptr
                         : static_cast<const T*>(call.shift) + static_cast<long>(image) * call.shift_stride + channel;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float off = sums[i] / count;
      lane_sums[i] = pivot.at[i] + off + (shift == nullptr ? 0.0f : ToFloat(shift[i]));
      lane_squares[i] = squares[i] - sums[i] * off;
    }
  }
  __syncthreads();
  const int group = threadIdx.y * blockDim.x + threadIdx.x;
  if (group >= call.groups) return;
  const int width = channels / call.groups;
  Moments moments{0, 0, 0};
  for (int c = group * width; c < (group + 1) * width; ++c) {
    moments.Merge({count, shared[c], shared[cut.lanes * channels + c]});
  }
  float* to = call.moments + 2 * ((static_cast<long>(image) * cut.slices + blockIdx.x) * call.groups + group);
  to[0] = moments.mean;
  to[1] = moments.squares;
}

// A warp merges the slices of a group.
__device__ Moments MergeSlices(const StoryfarmGroupNorm& call, const Cut& cut, int image, int group, int lane) {
  const int width = call.channels / call.groups;
  Moments moments{0, 0, 0};
  for (int slice = lane; slice < cut.slices; slice += kWarp) {
    const int first = slice * cut.cells_a_slice;
    const float count = static_cast<float>(min(cut.cells_a_slice, call.cells - first) * width);
    const float* from = call.moments + 2 * ((static_cast<long>(image) * cut.slices + slice) * call.groups + group);
    moments.Merge({count, from[0], from[1]});
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    Moments other;
    other.count = __shfl_down_sync(0xffffffffu, moments.count, distance);
    other.mean = __shfl_down_sync(0xffffffffu, moments.mean, distance);
    other.squares = __shfl_down_sync(0xffffffffu, moments.squares, distance);
    moments.Merge(other);
  }
  return moments;
}

template <typename T, bool kSilu>
__global__ void __launch_bounds__(kThreads, 2) Normalise(StoryfarmGroupNorm call, Cut cut) {
  __shared__ float mean_of[kMostGroups], scale_of[kMostGroups];
  const int channels = call.channels, width = channels / call.groups;
  const int image = blockIdx.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
  const int warps = blockDim.x * blockDim.y / kWarp;
  // Threads beyond the last whole warp only wait.
  if (thread < warps * kWarp) {
    for (int group = thread / kWarp; group < call.groups; group += warps) {
      const Moments moments = MergeSlices(call, cut, image, group, thread % kWarp);
      if (thread % kWarp == 0) {
        mean_of[group] = moments.mean;
        scale_of[group] = rsqrtf(moments.squares / moments.count + call.eps);
      }
    }
  }
  __syncthreads();
  const int channel = threadIdx.x * kVector;
  const Vector<T> weight = Vector<T>::Load(static_cast<const T*>(call.weight) + channel);
  Vector<T> addend = Vector<T>::Load(static_cast<const T*>(call.bias) + channel);
  Vector<T> factor;
  Vector<T> shift{};
  if (call.shift != nullptr) {
    shift = Vector<T>::Load(static_cast<const T*>(call.shift) + static_cast<long>(image) * call.shift_stride + channel);
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const int group = (channel + i) / width;
    factor.at[i] = scale_of[group] * weight.at[i];
    addend.at[i] += (shift.at[i] - mean_of[group]) * factor.at[i];
  }
  const long offset = static_cast<long>(image) * call.cells * channels + channel;
  const T* x = static_cast<const T*>(call.x) + offset;
  T* y = static_cast<T*>(call.y) + offset;
  const int first = blockIdx.x * cut.cells_a_slice;
  const int end = min(first + cut.cells_a_slice, call.cells);
  for (int cell = first + threadIdx.y; cell < end; cell += kInFlight * cut.lanes) {
    Raw v[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int own = cell + k * cut.lanes;
      if (own < end) v[k] = LoadRaw(x + static_cast<long>(own) * channels);
    }
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int own = cell + k * cut.lanes;
      if (own >= end) break;
      Vector<T> n = Vector<T>::Of(v[k]);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        n.at[i] = n.at[i] * factor.at[i] + addend.at[i];
        if (kSilu) n.at[i] = __fdividef(n.at[i], 1.0f + __expf(-n.at[i]));
      }
      n.Store(y + static_cast<long>(own) * channels);
    }
  }
}

template <typename T>
int GroupNorm(const StoryfarmGroupNorm& call, cudaStream_t stream) {
  const Cut cut = CutOf(call.batch, call.cells, call.channels);
  const dim3 grid(cut.slices, call.batch), block(cut.vectors, cut.lanes);
  const size_t shared = 2 * sizeof(float) * cut.lanes * call.channels;
  SliceMoments<T><<<grid, block, shared, stream>>>(call, cut);
  if (call.silu) {
    Normalise<T, true><<<grid, block, 0, stream>>>(call, cut);
  } else {
    Normalise<T, false><<<grid, block, 0, stream>>>(call, cut);
  }
  return cudaGetLastError();
}

__device__ inline float SumOverWarp(float x) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

// A warp a row, which stays in registers: kVectors of them a lane.
template <typename T, int kVectors>
__global__ void AddLayerNorm(T* h, const T* y, const T* weight, const T* bias, T* normed, int rows, int channels,
                             float eps) {
  const int row = blockIdx.x * kRowsABlock + threadIdx.y;
  if (row >= rows) return;
  const long offset = static_cast<long>(row) * channels;
  Vector<T> v[kVectors];
  Raw addends[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int channel = (i * kWarp + threadIdx.x) * kVector;
    if (channel >= channels) continue;
    v[i] = Vector<T>::Load(h + offset + channel);
    if (y != nullptr) addends[i] = LoadRaw(y + offset + channel);
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int channel = (i * kWarp + threadIdx.x) * kVector;
    if (channel >= channels) continue;
    if (y != nullptr) {
      v[i].Add(Vector<T>::Of(addends[i]));
      v[i].Store(h + offset + channel);
      // What is normalised is what later operations read: rounded.
#pragma unroll
      for (int j = 0; j < kVector; ++j) v[i].at[j] = ToFloat(FromFloat<T>(v[i].at[j]));
    }
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum += v[i].at[j];
  }
  const float mean = SumOverWarp(sum) / channels;
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if ((i * kWarp + threadIdx.x) * kVector >= channels) continue;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      v[i].at[j] -= mean;
      squares += v[i].at[j] * v[i].at[j];
    }
  }
  const float scale = rsqrtf(SumOverWarp(squares) / channels + eps);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int channel = (i * kWarp + threadIdx.x) * kVector;
    if (channel >= channels) continue;
    const Vector<T> w = Vector<T>::Load(weight + channel), b = Vector<T>::Load(bias + channel);
#pragma unroll
    for (int j = 0; j < kVector; ++j) v[i].at[j] = v[i].at[j] * scale * w.at[j] + b.at[j];
    v[i].Store(normed + offset + channel);
  }
}

template <typename T>
int RunAddLayerNorm(void* h, const void* y, const void* weight, const void* bias, void* normed, int rows, int channels,
                    float eps, cudaStream_t stream) {
  const dim3 grid((rows + kRowsABlock - 1) / kRowsABlock), block(kWarp, kRowsABlock);
  const int vectors = (channels + kWarp * kVector - 1) / (kWarp * kVector);
  const auto run = [&](auto kernel) {
    kernel<<<grid, block, 0, stream>>>(static_cast<T*>(h), static_cast<const T*>(y), static_cast<const T*>(weight),
                                       static_cast<const T*>(bias), static_cast<T*>(normed), rows, channels, eps);
  };
  if (vectors <= 1) {
    run(AddLayerNorm<T, 1>);
  } else if (vectors <= 3) {
    run(AddLayerNorm<T, 3>);
  } else if (vectors <= 5) {
    run(AddLayerNorm<T, 5>);
  } else if (vectors <= 16) {
    run(AddLayerNorm<T, 16>);
  } else {
    return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

// x (1 + erf(x / sqrt 2)) / 2, erf by Abramowitz and Stegun's 7.1.26: off by 1.5e-7 at most, where erff takes twice as long.
__device__ inline float Gelu(float x) {
  constexpr float kSqrtHalf = 0.70710678118654752f;
  const float z = fabsf(x) * kSqrtHalf;
  const float t = __fdividef(1.0f, 1.0f + 0.3275911f * z);
  const float series =
      t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  const float complement = series * __expf(-z * z);  // 1 - erf(z)
  return 0.5f * x * (x >= 0 ? 2.0f - complement : complement);
}

constexpr int kGegluThreads = 256;
constexpr int kGegluVectors = 2;  // a thread: loads in flight

template <typename T>
__global__ void Geglu(const T* x, T* y, int rows, int channels) {
  const int vectors = channels / kVector;
  const long total = static_cast<long>(rows) * vectors;
  const long first = (static_cast<long>(blockIdx.x) * kGegluVectors) * kGegluThreads + threadIdx.x;
  Vector<T> a[kGegluVectors], b[kGegluVectors];
#pragma unroll
  for (int k = 0; k < kGegluVectors; ++k) {
    const long at = first + static_cast<long>(k) * kGegluThreads;
    if (at >= total) continue;
    const int row = static_cast<int>(at / vectors), vector = static_cast<int>(at % vectors);
    const T* from = x + static_cast<long>(row) * 2 * channels + vector * kVector;
    a[k] = Vector<T>::Load(from);
    b[k] = Vector<T>::Load(from + channels);
  }
#pragma unroll
  for (int k = 0; k < kGegluVectors; ++k) {
    const long at = first + static_cast<long>(k) * kGegluThreads;
    if (at >= total) continue;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      a[k].at[i] *= Gelu(b[k].at[i]);
    }
    a[k].Store(y + at * kVector);
  }
}

template <typename T>
int RunGeglu(const void* x, void* y, int rows, int channels, cudaStream_t stream) {
  const long total = static_cast<long>(rows) * (channels / kVector);
  constexpr int kABlock = kGegluThreads * kGegluVectors;
  Geglu<T><<<static_cast<unsigned>((total + kABlock - 1) / kABlock), kGegluThreads, 0, stream>>>(
      static_cast<const T*>(x), static_cast<T*>(y), rows, channels);
  return cudaGetLastError();
}

template <typename T>
__global__ void AddBias(T* x, const T* bias, const T* residual, long cells, int channels) {
  const int channel = threadIdx.x * kVector;
  const Vector<T> b = Vector<T>::Load(bias + channel);
  const long first = (static_cast<long>(blockIdx.x) * kInFlight) * blockDim.y + threadIdx.y;
  const auto place = [&](int k) { return (first + static_cast<long>(k) * blockDim.y) * channels + channel; };
  const long end = cells * channels;
  Raw own[kInFlight], other[kInFlight];
#pragma unroll
  for (int k = 0; k < kInFlight; ++k) {
    if (place(k) >= end) break;
    own[k] = LoadRaw(x + place(k));
    other[k] = LoadRaw(residual + place(k));
  }
#pragma unroll
  for (int k = 0; k < kInFlight; ++k) {
    if (place(k) >= end) break;
    Vector<T> v = Vector<T>::Of(own[k]);
    v.Add(b);
    v.Add(Vector<T>::Of(other[k]));
    v.Store(x + place(k));
  }
}

template <typename T>
int RunAddBias(void* x, const void* bias, const void* residual, long cells, int channels, cudaStream_t stream) {
  const int vectors = channels / kVector;
  const dim3 block(vectors, vectors >= kThreads ? 1 : kThreads / vectors);
  const long a_block = static_cast<long>(block.y) * kInFlight;
  AddBias<T><<<static_cast<unsigned>((cells + a_block - 1) / a_block), block, 0, stream>>>(
      static_cast<T*>(x), static_cast<const T*>(bias), static_cast<const T*>(residual), cells, channels);
  return cudaGetLastError();
}

template <typename T>
__global__ void Unpack(const signed char* x, const T* scale, T* y, long vectors, int vectors_a_group) {
  const long vector = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (vector >= vectors) return;
  union {
    uint2 bits;
    signed char elements[kVector];
  } raw;
  raw.bits = reinterpret_cast<const uint2*>(x)[vector];
  const float factor = ToFloat(scale[vector / vectors_a_group]);
  Vector<T> v;
#pragma unroll
  for (int i = 0; i < kVector; ++i) v.at[i] = static_cast<float>(raw.elements[i]) * factor;
  v.Store(y + vector * kVector);
}

template <typename T>
int RunUnpack(const signed char* x, const void* scale, void* y, long groups, int width, cudaStream_t stream) {
  constexpr int kUnpackThreads = 256;
  const long vectors = groups * (width / kVector);
  Unpack<T><<<static_cast<unsigned>((vectors + kUnpackThreads - 1) / kUnpackThreads), kUnpackThreads, 0, stream>>>(
      x, static_cast<const T*>(scale), static_cast<T*>(y), vectors, width / kVector);
  return cudaGetLastError();
}

// A warp a row.
template <typename T>
__global__ void Pack(const T* x, signed char* y, __half* scale, int rows, int width) {
  const int row = blockIdx.x * kRowsABlock + threadIdx.y;
  if (row >= rows) return;
  constexpr float kMost = 127, kLeastScale = 6.103515625e-5f, kLargest = 65504;
  const long offset = static_cast<long>(row) * width;
  float largest = 0;
  for (int at = threadIdx.x * kVector; at < width; at += kWarp * kVector) {
    const Vector<T> v = Vector<T>::Load(x + offset + at);
#pragma unroll
    for (int i = 0; i < kVector; ++i) largest = fmaxf(largest, fabsf(v.at[i]));
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  }
  const __half rounded = __float2half_rn(fminf(fmaxf(largest / kMost, kLeastScale), kLargest));
  if (threadIdx.x == 0) scale[row] = rounded;
  const float divisor = __half2float(rounded);
  for (int at = threadIdx.x * kVector; at < width; at += kWarp * kVector) {
    const Vector<T> v = Vector<T>::Load(x + offset + at);
    union {
      uint2 bits;
      signed char elements[kVector];
    } raw;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      raw.elements[i] = static_cast<signed char>(rintf(fminf(fmaxf(v.at[i] / divisor, -kMost), kMost)));
    }
    *reinterpret_cast<uint2*>(y + offset + at) = raw.bits;
  }
}

bool Fits(int channels) { return channels > 0 && channels % kVector == 0 && channels <= kMostChannels; }

}  // namespace

int StoryfarmGroupNormScratch(int batch, int cells, int channels, int groups) {
  return 2 * batch * CutOf(batch, cells, channels).slices * groups;
}

int StoryfarmGroupNormRun(const StoryfarmGroupNorm* call, int element, void* stream) {
  if (!Fits(call->channels) || call->batch <= 0 || call->groups <= 0 || call->groups > kMostGroups ||
      call->channels % call->groups != 0 ||
      call->channels / kVector * CutOf(call->batch, call->cells, call->channels).lanes < call->groups) {
    return cudaErrorInvalidValue;
  }
  const auto on = static_cast<cudaStream_t>(stream);
  return element == kElementHalf ? GroupNorm<__half>(*call, on) : GroupNorm<__nv_bfloat16>(*call, on);
}

int StoryfarmAddLayerNorm(void* h, const void* y, const void* weight, const void* bias, void* normed, int rows,
                          int channels, float eps, int element, void* stream) {
  if (!Fits(channels)) return cudaErrorInvalidValue;
  const auto on = static_cast<cudaStream_t>(stream);
  return element == kElementHalf ? RunAddLayerNorm<__half>(h, y, weight, bias, normed, rows, channels, eps, on)
                                 : RunAddLayerNorm<__nv_bfloat16>(h, y, weight, bias, normed, rows, channels, eps, on);
}

int StoryfarmGeglu(const void* x, void* y, int rows, int channels, int element, void* stream) {
  if (channels <= 0 || channels % kVector != 0) return cudaErrorInvalidValue;
  const auto on = static_cast<cudaStream_t>(stream);
  return element == kElementHalf ? RunGeglu<__half>(x, y, rows, channels, on)
                                 : RunGeglu<__nv_bfloat16>(x, y, rows, channels, on);
}

int StoryfarmAddBias(void* x, const void* bias, const void* residual, long cells, int channels, int element,
                     void* stream) {
  if (!Fits(channels)) return cudaErrorInvalidValue;
  const auto on = static_cast<cudaStream_t>(stream);
  return element == kElementHalf ? RunAddBias<__half>(x, bias, residual, cells, channels, on)
                                 : RunAddBias<__nv_bfloat16>(x, bias, residual, cells, channels, on);
}

int StoryfarmUnpack(const signed char* x, const void* scale, void* y, long groups, int width, int element,
                    void* stream) {
  if (width <= 0 || width % kVector != 0) return cudaErrorInvalidValue;
  const auto on = static_cast<cudaStream_t>(stream);
  return element == kElementHalf ? RunUnpack<__half>(x, scale, y, groups, width, on)
                                 : RunUnpack<__nv_bfloat16>(x, scale, y, groups, width, on);
}

int StoryfarmPack(const void* x, signed char* y, void* scale, int rows, int width, int element, void* stream) {
  if (width <= 0 || width % kVector != 0) return cudaErrorInvalidValue;
  const auto on = static_cast<cudaStream_t>(stream);
  const dim3 grid((rows + kRowsABlock - 1) / kRowsABlock), block(kWarp, kRowsABlock);
  if (element == kElementHalf) {
    Pack<<<grid, block, 0, on>>>(static_cast<const __half*>(x), y, static_cast<__half*>(scale), rows, width);
  } else {
    Pack<<<grid, block, 0, on>>>(static_cast<const __nv_bfloat16*>(x), y, static_cast<__half*>(scale), rows, width);
  }
  return cudaGetLastError();
}
