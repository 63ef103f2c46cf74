// What NVIDIA's compute capability 9.0 has and CUDA C++ has no words for, in PTX: barriers that count bytes, copies of
// tiles that the memory unit makes by itself, and products of tiles by four warps together. PTX ISA 8.0 and
// later: 9.7.13.15 (mbarrier), 9.7.9.25 (cp.async.bulk.tensor), 9.7.15 (wgmma).
#ifndef STORYFARM_PIPELINE_DEVICE_CUDA_HOPPER_CUH_
#define STORYFARM_PIPELINE_DEVICE_CUDA_HOPPER_CUH_

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

namespace storyfarm::device::hopper {

inline constexpr int kWarpGroup = 128;  // threads
// A row of a tile in shared memory: 128 bytes, eight rows swizzled together.
inline constexpr int kSwizzleBytes = 128;
inline constexpr int kSwizzleRows = 8;

__device__ inline uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ inline void InitBarrier(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(arrivals) : "memory");
}
// Barriers are seen by the other blocks of the cluster and by the unit that copies.
__device__ inline void FenceBarrierInit() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void Wait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra.uni through;\n"
      "bra.uni again;\n"
      "through:\n"
      "}" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}
// One arrival, and as many bytes to come before the phase ends.
__device__ inline void ArriveExpecting(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(bytes)
               : "memory");
}
// At the barrier that lies at the same place in another block of the cluster, or in this one. Tells that tiles were
// read, and publishes nothing that was written: a release to the whole cluster would wait for all of the device's
// memory.
__device__ inline void ArriveAt(uint64_t* barrier, uint32_t block) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}" ::"r"(SharedAddress(barrier)),
      "r"(block)
      : "memory");
}

__device__ inline uint32_t BlockInCluster() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline void SyncCluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// A tile of a matrix, from (column, row) on, to `to`; what lies outside the matrix comes as zeros. Its bytes count at
// `barrier`.
__device__ inline void CopyTile(void* to, const CUtensorMap& from, uint64_t* barrier, int column, int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          SharedAddress(to)),
      "l"(&from), "r"(SharedAddress(barrier)), "r"(column), "r"(row)
      : "memory");
}
// The same to those blocks of the cluster that have a bit in `blocks`, each at its own `to` and `barrier`.
__device__ inline void CopyTileTo(uint16_t blocks, void* to, const CUtensorMap& from, uint64_t* barrier, int column,
                                  int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, "
      "%4}], [%2], %5;" ::"r"(SharedAddress(to)),
      "l"(&from), "r"(SharedAddress(barrier)), "r"(column), "r"(row), "h"(blocks)
      : "memory");
}

// How the product reads a tile of rows of kSwizzleBytes: address, 1024 bytes from eight rows to the next, swizzled.
__device__ inline uint64_t TileDescriptor(const void* tile) {
  constexpr uint64_t kLeading = uint64_t{1} << 16;  // not used where rows are swizzled
  constexpr uint64_t kStride = uint64_t{kSwizzleRows * kSwizzleBytes >> 4} << 32;
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  return ((SharedAddress(tile) & 0x3FFFF) >> 4) | kLeading | kStride | kSwizzle128;
}
// Of the same rows, `bytes` further to the right.
__device__ inline uint64_t Along(uint64_t descriptor, int bytes) { return descriptor + (bytes >> 4); }

__device__ inline void BeginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void CommitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most kPending committed groups are still at work.
template <int kPending>
__device__ inline void AwaitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Nothing of d is read before this point.
template <int kCount>
__device__ inline void Settle(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// d[64, 256] = a[64, 16] b[256, 16]^T, plus d where `accumulate`. By the four warps of a group: warp w holds rows
// [16 w, 16 w + 16), and of them lane l columns 8 j + 2 (l % 4) + {0, 1} of row l / 4 in d[4 j + {0, 1}], of row
// l / 4 + 8 in d[4 j + {2, 3}].
#define STORYFARM_WGMMA_M64N256K16(TYPES)                                                                           \
  asm volatile(                                                                                                     \
      "{\n"                                                                                                         \
      ".reg .pred p;\n"                                                                                             \
      "setp.ne.b32 p, %130, 0;\n"                                                                                   \
      "wgmma.mma_async.sync.aligned.m64n256k16." TYPES " {"                                                         \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                      \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                            \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                            \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "                            \
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                            \
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                            \
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "                \
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"              \
      "}, %128, %129, p, 1, 1, 0, 0;\n"                                                                             \
      "}"                                                                                                           \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),             \
        "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),       \
        "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),     \
        "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),     \
        "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),     \
        "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),     \
        "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),     \
        "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]),     \
        "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]),     \
        "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]),     \
        "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]),     \
        "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]),     \
        "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), \
        "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]),\
        "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]),\
        "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])\
      : "l"(a), "l"(b), "r"(accumulate))

template <typename T>
__device__ inline void Multiply64x256x16(float (&d)[128], uint64_t a, uint64_t b, int accumulate) {
  if constexpr (std::is_same_v<T, __half>) {
    STORYFARM_WGMMA_M64N256K16("f32.f16.f16");
  } else {
    STORYFARM_WGMMA_M64N256K16("f32.bf16.bf16");
  }
}
#undef STORYFARM_WGMMA_M64N256K16

}  // namespace storyfarm::device::hopper

#endif  // STORYFARM_PIPELINE_DEVICE_CUDA_HOPPER_CUH_
