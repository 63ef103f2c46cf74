// The feed-forward's first half, y = a gelu(b) with [a, b] = x weight^T + bias, as one kernel for compute
// capability 9.0: the product's result, eight times as wide as x, never lies in memory.
//
// Two blocks work as a cluster on two tiles of x, one above the other, and the same tile of weights, of which each
// fetches one half for both. Of a block's three groups of four warps one thread copies, two groups multiply:
//
//   copying thread: --empty?--> copies 128 rows of x, and 128 weights of a (block 0) or of b (block 1) --full--+
//   groups:         --full?---> 64 x (128 a + 128 b) products of 64 columns, added in registers  --empty--     +
//                   ... until all columns are added, then gelu, product, 64 x 128 results to memory
//
// kStages such steps are under way, so that one group multiplies while the other one writes.
#include "pipeline/device/cuda/gelu.cuh"
#include "pipeline/device/cuda/hopper.cuh"
#include "pipeline/device/cuda/vector.cuh"

using namespace storyfarm::device;  // NOLINT: the library's door is plain C

namespace {

using namespace storyfarm::device::hopper;  // NOLINT: as above

constexpr int kBlocks = 2;     // of a cluster
constexpr int kTileRows = 128;  // of x, and of y
constexpr int kTileOut = 128;   // columns of y
constexpr int kTileIn = 64;     // columns of x: kSwizzleBytes
constexpr int kStepIn = 16;     // columns that one instruction adds up
constexpr int kStages = 4;
constexpr int kGroups = 2;  // that multiply
constexpr int kDistance = 2;  // stages from one to the other
constexpr int kGroupRows = kTileRows / kGroups;
constexpr int kBlockThreads = (1 + kGroups) * kWarpGroup;
constexpr int kWarpsThatMultiply = kGroups * kWarpGroup / kWarp;
constexpr int kAlignment = 1024;  // of a swizzled tile
// Registers of a thread: the compiler gives all as many, and copying needs few.
constexpr int kRegistersToCopy = 40, kRegistersToMultiply = 232;

template <typename T>
struct Stage {
  T x[kTileRows * kTileIn];
  T a[kTileOut * kTileIn];
  T b[kTileOut * kTileIn];  // behind a: one operand of 256 rows
};
template <typename T>
struct Shared {
  Stage<T> stages[kStages];
  uint64_t full[kStages], empty[kStages];
};
template <typename T>
constexpr size_t kSharedBytes = sizeof(Shared<T>) + kAlignment;
static_assert(kSharedBytes<__half> <= 227 * 1024, "what a block may have");
static_assert(kTileIn * sizeof(__half) == kSwizzleBytes);

// Tiles of a cluster, pairs of rows first, so that clusters at work share weights.
struct Tiles {
  int pairs, total;
  __device__ Tiles(int rows, int out)
      : pairs((rows + kBlocks * kTileRows - 1) / (kBlocks * kTileRows)), total(pairs * (out / kTileOut)) {}
  __device__ int Row(int tile, int block) const { return (tile % pairs * kBlocks + block) * kTileRows; }
  __device__ int Column(int tile) const { return tile / pairs * kTileOut; }
};

// Where in the ring.
struct Turn {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void Next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

template <typename T>
__device__ void Copy(Shared<T>& shared, const CUtensorMap& x_map, const CUtensorMap& weight_map, const Tiles& tiles,
                     int in, int out) {
  const int block = static_cast<int>(BlockInCluster());
  Turn turn;
  for (int tile = blockIdx.x / kBlocks; tile < tiles.total; tile += gridDim.x / kBlocks) {
    const int weight_row = tiles.Column(tile) + block * out;
    for (int column = 0; column < in; column += kTileIn, turn.Next()) {
      Stage<T>& stage = shared.stages[turn.stage];
      uint64_t* full = &shared.full[turn.stage];
      Wait(&shared.empty[turn.stage], turn.parity ^ 1);
      ArriveExpecting(full, sizeof(Stage<T>));
      CopyTile(stage.x, x_map, full, column, tiles.Row(tile, block));
      CopyTileTo((1 << kBlocks) - 1, block == 0 ? stage.a : stage.b, weight_map, full, column, weight_row);
    }
  }
}

template <typename T>
struct Pair;
template <>
struct Pair<__half> {
  using Type = __half2;
  __device__ static float2 ToFloats(Type x) { return __half22float2(x); }
  __device__ static Type Of(float x, float y) { return __floats2half2_rn(x, y); }
};
template <>
struct Pair<__nv_bfloat16> {
  using Type = __nv_bfloat162;
  __device__ static float2 ToFloats(Type x) { return __bfloat1622float2(x); }
  __device__ static Type Of(float x, float y) { return __floats2bfloat162_rn(x, y); }
};

template <typename T>
__device__ inline uint32_t Gated(const float* a, const float* b, float2 bias_a, float2 bias_b) {
  const typename Pair<T>::Type y =
      Pair<T>::Of((a[0] + bias_a.x) * Gelu(b[0] + bias_b.x), (a[1] + bias_a.y) * Gelu(b[1] + bias_b.y));
  return *reinterpret_cast<const uint32_t*>(&y);
}

// Among four neighbouring lanes: lane l gets value l of each, in the order of the lanes.
__device__ inline uint4 Transpose(uint32_t v0, uint32_t v1, uint32_t v2, uint32_t v3, int lane) {
  constexpr unsigned kAll = 0xffffffffu;
  const auto swap = [&](uint32_t& low, uint32_t& high, int distance) {
    const bool upper = (lane & distance) != 0;
    const uint32_t came = __shfl_xor_sync(kAll, upper ? low : high, distance);
    (upper ? low : high) = came;
  };
  swap(v0, v1, 1);
  swap(v2, v3, 1);
  swap(v0, v2, 2);
  swap(v1, v3, 2);
  return {v0, v1, v2, v3};
}

// Of the columns whose sums a thread has: fetched before they are needed.
template <typename T>
struct Biases {
  typename Pair<T>::Type a[kTileOut / 8], b[kTileOut / 8];

  __device__ Biases(const T* bias, int first_column, int out) {
    const T* from = bias + first_column + 2 * (threadIdx.x % 4);
#pragma unroll
    for (int i = 0; i < kTileOut / 8; ++i) {
      a[i] = *reinterpret_cast<const typename Pair<T>::Type*>(from + 8 * i);
      b[i] = *reinterpret_cast<const typename Pair<T>::Type*>(from + out + 8 * i);
    }
  }
};

template <typename T>
__device__ void Write(const float (&sums)[kTileOut], const Biases<T>& biases, T* y, int first_row, int first_column,
                      int rows, int out) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % (kWarpGroup / kWarp);
  const int row = first_row + warp * 16 + lane / 4, quarter = lane % 4;
#pragma unroll
  for (int group = 0; group < kTileOut / 32; ++group) {
    uint32_t upper[4], lower[4];  // of rows `row` and `row` + 8
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int columns = 4 * group + i;  // eight of them
      const float* a = &sums[4 * columns];
      const float* b = a + kTileOut / 8 * 4;
      const float2 of_a = Pair<T>::ToFloats(biases.a[columns]), of_b = Pair<T>::ToFloats(biases.b[columns]);
      upper[i] = Gated<T>(a, b, of_a, of_b);
      lower[i] = Gated<T>(a + 2, b + 2, of_a, of_b);
    }
    const uint4 up = Transpose(upper[0], upper[1], upper[2], upper[3], lane);
    const uint4 low = Transpose(lower[0], lower[1], lower[2], lower[3], lane);
    T* to = y + static_cast<long>(row) * out + first_column + 32 * group + 8 * quarter;
    if (row < rows) *reinterpret_cast<uint4*>(to) = up;
    if (row + 8 < rows) *reinterpret_cast<uint4*>(to + 8L * out) = low;
  }
}

constexpr int kGroupsBarrier = 1;  // 0 is everybody's
__device__ inline void AwaitGroup() {
  asm volatile("barrier.cta.sync %0, %1;" ::"n"(kGroupsBarrier), "n"(kGroups * kWarpGroup) : "memory");
}
__device__ inline void WakeGroup() {
  asm volatile("barrier.cta.arrive %0, %1;" ::"n"(kGroupsBarrier), "n"(kGroups * kWarpGroup) : "memory");
}

template <typename T>
__device__ void Multiply(Shared<T>& shared, const Tiles& tiles, const T* bias, T* y, int rows, int in, int out) {
  const int block = static_cast<int>(BlockInCluster());
  const int group = threadIdx.x / kWarpGroup - 1, lane = threadIdx.x % kWarp;
  const auto release = [&](int stage) {
    if (lane < kBlocks) ArriveAt(&shared.empty[stage], lane);
  };
  Turn turn;
  // The second group follows the first one at a distance, so that one multiplies while the other writes.
  bool ahead = false;
  if (group == 1) AwaitGroup();
  for (int tile = blockIdx.x / kBlocks; tile < tiles.total; tile += gridDim.x / kBlocks) {
    const Biases<T> biases(bias, tiles.Column(tile), out);
    float sums[kTileOut];  // of a and of b: a lane has half of both
    int before = -1;
    for (int column = 0; column < in; column += kTileIn, turn.Next()) {
      Stage<T>& stage = shared.stages[turn.stage];
      Wait(&shared.full[turn.stage], turn.parity);
      const uint64_t x = TileDescriptor(stage.x + group * kGroupRows * kTileIn), weights = TileDescriptor(stage.a);
      BeginProducts();
#pragma unroll
      for (int step = 0; step < kTileIn / kStepIn; ++step) {
        const int bytes = step * kStepIn * static_cast<int>(sizeof(T));
        Multiply64x256x16<T>(sums, Along(x, bytes), Along(weights, bytes), column > 0 || step > 0);
      }
      CommitProducts();
      AwaitProducts<1>();
      if (before >= 0) release(before);
      before = turn.stage;
      if (group == 0 && !ahead && turn.stage == kDistance - 1) {
        ahead = true;
        WakeGroup();
      }
    }
    AwaitProducts<0>();
    release(before);
    Settle(sums);
    Write(sums, biases, y, tiles.Row(tile, block) + group * kGroupRows, tiles.Column(tile), rows, out);
  }
  if (group == 0 && !ahead) WakeGroup();
}

template <typename T>
__global__ void __cluster_dims__(kBlocks, 1, 1) __launch_bounds__(kBlockThreads, 1)
    GatedProduct(const __grid_constant__ CUtensorMap x_map, const __grid_constant__ CUtensorMap weight_map,
                 const T* bias, T* y, int rows, int in, int out) {
  extern __shared__ char memory[];
  const uint32_t misplaced = SharedAddress(memory) % kAlignment;
  Shared<T>& shared = *reinterpret_cast<Shared<T>*>(memory + (misplaced == 0 ? 0 : kAlignment - misplaced));
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      InitBarrier(&shared.full[stage], 1);
      InitBarrier(&shared.empty[stage], kBlocks * kWarpsThatMultiply);
    }
    FenceBarrierInit();
  }
  SyncCluster();
  const Tiles tiles(rows, out);
  if (threadIdx.x < kWarpGroup) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegistersToCopy));
    if (threadIdx.x == 0) Copy(shared, x_map, weight_map, tiles, in, out);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegistersToMultiply));
    Multiply(shared, tiles, bias, y, rows, in, out);
  }
  // Neither leaves while the other one copies to it or arrives at it.
  __syncwarp();
  SyncCluster();
}

// Of [rows, columns], row by row in memory, tiles of `tile_rows` x kTileIn.
template <typename T>
bool Describe(CUtensorMap* map, const void* matrix, int rows, int columns, int tile_rows) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result;
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result) !=
          cudaSuccess ||
      result != cudaDriverEntryPointSuccess) {
    return false;
  }
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
  const auto type =
      std::is_same_v<T, __half> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(columns) * sizeof(T)};
  const cuuint32_t box[2] = {kTileIn, static_cast<cuuint32_t>(tile_rows)}, steps[2] = {1, 1};
  return encode(map, type, 2, const_cast<void*>(matrix), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

int Attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  return cudaDeviceGetAttribute(&value, attribute, device) == cudaSuccess ? value : 0;
}

template <typename T>
int Run(const void* x, const void* weight, const void* bias, void* y, int rows, int in, int out, cudaStream_t stream) {
  CUtensorMap x_map, weight_map;
  if (!Describe<T>(&x_map, x, rows, in, kTileRows) || !Describe<T>(&weight_map, weight, 2 * out, in, kTileOut)) {
    return cudaErrorInvalidValue;
  }
  const cudaError_t error = cudaFuncSetAttribute(GatedProduct<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                 static_cast<int>(kSharedBytes<T>));
  if (error != cudaSuccess) return error;
  const int blocks = Attribute(cudaDevAttrMultiProcessorCount) / kBlocks * kBlocks;
  GatedProduct<T><<<blocks, kBlockThreads, kSharedBytes<T>, stream>>>(
      x_map, weight_map, static_cast<const T*>(bias), static_cast<T*>(y), rows, in, out);
  return cudaGetLastError();
}

}  // namespace

int StoryfarmHasGatedProduct(int in, int out) {
  return in % kTileIn == 0 && out % kTileOut == 0 && Attribute(cudaDevAttrComputeCapabilityMajor) == 9;
}

int StoryfarmGatedProduct(const void* x, const void* weight, const void* bias, void* y, int rows, int in, int out,
                          int element, void* stream) {
  if (rows <= 0 || in <= 0 || in % kTileIn != 0 || out <= 0 || out % kTileOut != 0) return cudaErrorInvalidValue;
  const auto on = static_cast<cudaStream_t>(stream);
  return element == kElementHalf ? Run<__half>(x, weight, bias, y, rows, in, out, on)
                                 : Run<__nv_bfloat16>(x, weight, bias, y, rows, in, out, on);
}
