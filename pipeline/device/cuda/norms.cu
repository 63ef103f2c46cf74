// Group norms over images, layer norms over rows.
#include "pipeline/device/cuda/vector.cuh"

using namespace storyfarm::device;  // NOLINT: the library's door is plain C

namespace {

constexpr int kRowsAThread = 4;   // of a slice, at least: less would be mostly the sums at its end
constexpr int kMostBlocks = 264;  // of all images: two to a multiprocessor of the largest cards; each merges all slices

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

// Where a thread finds its eight channels of an image's cells, `stride` elements from one cell to the next.
template <typename T>
struct Source {
  const T* x;
  int stride;

  __device__ Source(const StoryfarmGroupNorm& call, int image, int channel) {
    const bool first = channel < call.first_channels;
    stride = first ? call.first_channels : call.channels - call.first_channels;
    x = static_cast<const T*>(first ? call.x : call.rest) + static_cast<long>(image) * call.cells * stride +
        (first ? channel : channel - call.first_channels);
  }
  __device__ const T* At(int cell) const { return x + static_cast<long>(cell) * stride; }
};

// Moments of each group over a slice of an image: grid (slices, batch), block (vectors, lanes).
template <typename T>
__global__ void SliceMoments(StoryfarmGroupNorm call, Cut cut) {
  extern __shared__ float shared[];  // [2, lanes, channels]: sums, and squares, of distances from a pivot
  const int channels = call.channels;
  const int channel = threadIdx.x * kVector, lane = threadIdx.y, image = blockIdx.y;
  const int first = blockIdx.x * cut.cells_a_slice;
  const int end = min(first + cut.cells_a_slice, call.cells);
  const Source<T> source(call, image, channel);
  // The distances of a channel's values from one of them are small where its values are large and alike.
  const Vector<T> pivot = Vector<T>::Load(source.At(first));
  float sums[kVector] = {}, squares[kVector] = {};
#pragma unroll 4
  for (int cell = first + lane; cell < end; cell += cut.lanes) {
    const Vector<T> v = Vector<T>::Load(source.At(cell));
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
  const Source<T> source(call, image, channel);
  T* y = static_cast<T*>(call.y) + static_cast<long>(image) * call.cells * channels + channel;
  const int first = blockIdx.x * cut.cells_a_slice;
  const int end = min(first + cut.cells_a_slice, call.cells);
  for (int cell = first + threadIdx.y; cell < end; cell += kInFlight * cut.lanes) {
    Raw v[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int own = cell + k * cut.lanes;
      if (own < end) v[k] = LoadRaw(source.At(own));
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
__global__ void LayerNorm(const T* x, const T* weight, const T* bias, T* y, int rows, int channels, float eps) {
  const int row = blockIdx.x * kRowsABlock + threadIdx.y;
  if (row >= rows) return;
  const long offset = static_cast<long>(row) * channels;
  Vector<T> v[kVectors];
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int channel = (i * kWarp + threadIdx.x) * kVector;
    if (channel < channels) v[i] = Vector<T>::Load(x + offset + channel);
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if ((i * kWarp + threadIdx.x) * kVector >= channels) continue;
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
    v[i].Store(y + offset + channel);
  }
}

template <typename T>
int RunLayerNorm(const void* x, const void* weight, const void* bias, void* y, int rows, int channels, float eps,
                 cudaStream_t stream) {
  const dim3 grid((rows + kRowsABlock - 1) / kRowsABlock), block(kWarp, kRowsABlock);
  const int vectors = (channels + kWarp * kVector - 1) / (kWarp * kVector);
  const auto run = [&](auto kernel) {
    kernel<<<grid, block, 0, stream>>>(static_cast<const T*>(x), static_cast<const T*>(weight),
                                       static_cast<const T*>(bias), static_cast<T*>(y), rows, channels, eps);
  };
  if (vectors <= 1) {
    run(LayerNorm<T, 1>);
  } else if (vectors <= 3) {
    run(LayerNorm<T, 3>);
  } else if (vectors <= 5) {
    run(LayerNorm<T, 5>);
  } else if (vectors <= 16) {
    run(LayerNorm<T, 16>);
  } else {
    return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

}  // namespace

int StoryfarmGroupNormScratch(int batch, int cells, int channels, int groups) {
  return 2 * batch * CutOf(batch, cells, channels).slices * groups;
}

int StoryfarmGroupNormRun(const StoryfarmGroupNorm* call, int element, void* stream) {
  if (!Fits(call->channels) || call->batch <= 0 || call->groups <= 0 || call->groups > kMostGroups ||
      call->channels % call->groups != 0 || call->first_channels % kVector != 0 ||
      (call->rest == nullptr && call->first_channels != call->channels) ||
      call->channels / kVector * CutOf(call->batch, call->cells, call->channels).lanes < call->groups) {
    return cudaErrorInvalidValue;
  }
  const auto on = static_cast<cudaStream_t>(stream);
  return element == kElementHalf ? GroupNorm<__half>(*call, on) : GroupNorm<__nv_bfloat16>(*call, on);
}

int StoryfarmLayerNorm(const void* x, const void* weight, const void* bias, void* y, int rows, int channels, float eps,
                       int element, void* stream) {
  if (!Fits(channels)) return cudaErrorInvalidValue;
  const auto on = static_cast<cudaStream_t>(stream);
  return element == kElementHalf ? RunLayerNorm<__half>(x, weight, bias, y, rows, channels, eps, on)
                                 : RunLayerNorm<__nv_bfloat16>(x, weight, bias, y, rows, channels, eps, on);
}
