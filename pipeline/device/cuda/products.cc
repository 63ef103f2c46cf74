// Products whose result is added to what is there, in one kernel of cuBLASLt: torch asks it for less.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "pipeline/device/cuda/kernels.h"

// What is used of cuBLASLt, as NVIDIA's documentation of cublasLt.h (CUDA 13.0) has it: that header comes only with
// half a gigabyte of libraries, which every torch for CUDA has loaded already.
extern "C" {
typedef struct cublasLtContext* cublasLtHandle_t;
typedef struct cublasLtMatmulDescOpaque_t* cublasLtMatmulDesc_t;
typedef struct cublasLtMatrixLayoutOpaque_t* cublasLtMatrixLayout_t;
typedef struct cublasLtMatmulPreferenceOpaque_t* cublasLtMatmulPreference_t;
struct cublasLtMatmulAlgo_t {
  uint64_t data[8];
};
struct cublasLtMatmulHeuristicResult_t {
  cublasLtMatmulAlgo_t algo;
  size_t workspaceSize;
  int state;
  float wavesCount;
  int reserved[4];
};
int cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, int compute_type, int scale_type);
int cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc);
int cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, int attribute, const void* value, size_t bytes);
int cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, int type, uint64_t rows, uint64_t columns, int64_t ld);
int cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout);
int cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference);
int cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference);
int cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, int attribute, const void* value,
                                         size_t bytes);
int cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                   cublasLtMatmulPreference_t preference, int wanted,
                                   cublasLtMatmulHeuristicResult_t* results, int* found);
int cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha, const void* a,
                   cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                   const void* c, cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                   const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspace_bytes, cudaStream_t stream);
}

namespace at::cuda {
// This thread's on the current device; torch's.
cublasLtHandle_t getCurrentCUDABlasLtHandle();
}  // namespace at::cuda

namespace {

constexpr int kFloat = 0, kHalf = 2, kBfloat16 = 14;             // cudaDataType
constexpr int kComputeFloat = 68;                                // CUBLAS_COMPUTE_32F
constexpr int kTransposeA = 3, kEpilogue = 7, kBiasPointer = 8;  // cublasLtMatmulDescAttributes_t
constexpr int kTransposed = 1;                                   // CUBLAS_OP_T
constexpr int kEpilogueBias = 4;                                 // CUBLASLT_EPILOGUE_BIAS
// cublasLtMatmulPreferenceAttributes_t: CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, and _MIN_ALIGNMENT_A_BYTES to _D_.
constexpr int kMostWorkspace = 1, kAlignments[] = {5, 6, 7, 8};

// The largest that matters to its kernels.
uint32_t AlignmentOf(const void* pointer) {
  constexpr uintptr_t kMost = 256;
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer) | kMost;
  return static_cast<uint32_t>(address & -address);
}

// Destroys what it holds.
template <typename T, int (*kDestroy)(T)>
struct Owned {
  T value = nullptr;
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (value != nullptr) kDestroy(value);
  }
};

}  // namespace

int StoryfarmAddProductRun(const StoryfarmAddProduct* call, int element, void* stream) {
  const int type = element == kElementHalf ? kHalf : kBfloat16;
  // Column by column, as cuBLAS sees memory: sum^T = weight x^T.
  Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy> desc;
  Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy> weight, x, sum;
  Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy> preference;
  const auto rows = static_cast<uint64_t>(call->rows), in = static_cast<uint64_t>(call->in),
             out = static_cast<uint64_t>(call->out);
  const size_t workspace_bytes = kProductWorkspace;
  int failed = cublasLtMatmulDescCreate(&desc.value, kComputeFloat, kFloat) |
               cublasLtMatrixLayoutCreate(&weight.value, type, in, out, call->weight_stride) |
               cublasLtMatrixLayoutCreate(&x.value, type, in, rows, call->in) |
               cublasLtMatrixLayoutCreate(&sum.value, type, out, rows, call->out) |
               cublasLtMatmulPreferenceCreate(&preference.value);
  if (failed != 0) return cudaErrorInitializationError;
  failed |= cublasLtMatmulDescSetAttribute(desc.value, kTransposeA, &kTransposed, sizeof kTransposed);
  failed |=
      cublasLtMatmulPreferenceSetAttribute(preference.value, kMostWorkspace, &workspace_bytes, sizeof workspace_bytes);
  const void* const matrices[] = {call->weight, call->x, call->sum, call->sum};
  for (int i = 0; i < 4; ++i) {
    const uint32_t bytes = AlignmentOf(matrices[i]);
    failed |= cublasLtMatmulPreferenceSetAttribute(preference.value, kAlignments[i], &bytes, sizeof bytes);
  }
  if (call->bias != nullptr) {
    failed |= cublasLtMatmulDescSetAttribute(desc.value, kEpilogue, &kEpilogueBias, sizeof kEpilogueBias);
    failed |= cublasLtMatmulDescSetAttribute(desc.value, kBiasPointer, &call->bias, sizeof call->bias);
  }
  cublasLtHandle_t handle = at::cuda::getCurrentCUDABlasLtHandle();
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  failed |= cublasLtMatmulAlgoGetHeuristic(handle, desc.value, weight.value, x.value, sum.value, sum.value,
                                           preference.value, 1, &best, &found);
  if (failed != 0 || found == 0) return cudaErrorNotSupported;
  const float one = 1;
  failed = cublasLtMatmul(handle, desc.value, &one, call->weight, weight.value, call->x, x.value, &one, call->sum,
                          sum.value, call->sum, sum.value, &best.algo, call->workspace, workspace_bytes,
                          static_cast<cudaStream_t>(stream));
  return failed == 0 ? cudaSuccess : cudaErrorLaunchFailure;
}
