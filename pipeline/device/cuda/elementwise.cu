// What is computed element by element, or row by row, in one pass.
#include "pipeline/device/cuda/gelu.cuh"
#include "pipeline/device/cuda/vector.cuh"

using namespace storyfarm::device;  // NOLINT: the library's door is plain C

namespace {

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
    if (residual != nullptr) other[k] = LoadRaw(residual + place(k));
  }
#pragma unroll
  for (int k = 0; k < kInFlight; ++k) {
    if (place(k) >= end) break;
    Vector<T> v = Vector<T>::Of(own[k]);
    v.Add(b);
    if (residual != nullptr) v.Add(Vector<T>::Of(other[k]));
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

constexpr int kUpsampleThreads = 256;

// A thread eight channels of a cell; whatever the elements are.
__global__ void Upsample(const Raw* x, Raw* y, long total, int width, int vectors) {
  const long at = static_cast<long>(blockIdx.x) * kUpsampleThreads + threadIdx.x;
  if (at >= total) return;
  const Raw own = x[at];
  const long cell = at / vectors;
  const int vector = static_cast<int>(at % vectors), column = static_cast<int>(cell % width);
  const long row = cell / width;  // of all images
  Raw* to = y + (4 * row * width + 2 * column) * vectors + vector;
  const long below = 2L * width * vectors;
  to[0] = own;
  to[vectors] = own;
  to[below] = own;
  to[below + vectors] = own;
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
  bool nan = false;  // fmaxf forgets them, and a reader must not
  for (int at = threadIdx.x * kVector; at < width; at += kWarp * kVector) {
    const Vector<T> v = Vector<T>::Load(x + offset + at);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      largest = fmaxf(largest, fabsf(v.at[i]));
      nan |= isnan(v.at[i]);
    }
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  }
  nan = __any_sync(0xffffffffu, nan);
  const __half rounded =
      nan ? __float2half_rn(nanf("")) : __float2half_rn(fminf(fmaxf(largest / kMost, kLeastScale), kLargest));
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

}  // namespace

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

int StoryfarmUpsample(const void* x, void* y, int batch, int height, int width, int channels, int, void* stream) {
  if (channels <= 0 || channels % kVector != 0) return cudaErrorInvalidValue;
  static_assert(sizeof(__half) == sizeof(__nv_bfloat16), "elements are moved, whichever they are");
  const int vectors = channels / kVector;
  const long total = static_cast<long>(batch) * height * width * vectors;
  const auto blocks = static_cast<unsigned>((total + kUpsampleThreads - 1) / kUpsampleThreads);
  Upsample<<<blocks, kUpsampleThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const Raw*>(x), static_cast<Raw*>(y), total, width, vectors);
  return cudaGetLastError();
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
