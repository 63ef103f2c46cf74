// Rows that are put together for an attention.
#include "pipeline/device/cuda/vector.cuh"

using namespace storyfarm::device;  // NOLINT: the library's door is plain C

namespace {

constexpr int kCopyThreads = 256;
constexpr int kCopies = 4;  // of a thread: loads in flight

// In vectors of eight elements, whatever these are.
struct Part {
  const Raw* x;
  long outer_stride, inner_stride, row_stride;
  int first_row;  // of y
};
struct Parts {
  Part parts[kMostParts];
  int count;
};

// `row_of(row)` -> where the row's first vector lies. grid (blocks, outer x inner).
template <typename RowOf>
__device__ void CopyRows(Raw* y, int rows, int vectors, const RowOf& row_of) {
  const long total = static_cast<long>(rows) * vectors;
  const long first = static_cast<long>(blockIdx.x) * kCopyThreads * kCopies + threadIdx.x;
  Raw values[kCopies];
#pragma unroll
  for (int k = 0; k < kCopies; ++k) {
    const long at = first + k * kCopyThreads;
    if (at >= total) break;
    const int row = static_cast<int>(at / vectors);
    values[k] = row_of(row)[at - static_cast<long>(row) * vectors];
  }
#pragma unroll
  for (int k = 0; k < kCopies; ++k) {
    const long at = first + k * kCopyThreads;
    if (at >= total) break;
    y[blockIdx.y * total + at] = values[k];
  }
}

__global__ void JoinRows(const __grid_constant__ Parts all, Raw* y, int inner, int rows, int vectors) {
  const long outer = blockIdx.y / inner, within = blockIdx.y % inner;
  CopyRows(y, rows, vectors, [&](int row) {
    int i = all.count - 1;
    while (row < all.parts[i].first_row) --i;
    const Part& part = all.parts[i];
    return part.x + outer * part.outer_stride + within * part.inner_stride +
           static_cast<long>(row - part.first_row) * part.row_stride;
  });
}

__global__ void GatherRows(const Raw* x, long outer_stride, long row_stride, const long* index, Raw* y, int rows,
                           int vectors) {
  CopyRows(y, rows, vectors, [&](int row) { return x + blockIdx.y * outer_stride + index[row] * row_stride; });
}

dim3 GridOf(int rows, int vectors, int images) {
  constexpr long kABlock = kCopyThreads * kCopies;
  return dim3(static_cast<unsigned>((static_cast<long>(rows) * vectors + kABlock - 1) / kABlock), images);
}

bool IsWhole(const StoryfarmRows& rows) {
  return rows.outer_stride % kVector == 0 && rows.inner_stride % kVector == 0 && rows.row_stride % kVector == 0;
}

static_assert(sizeof(__half) == sizeof(__nv_bfloat16), "elements are moved, whichever they are");

}  // namespace

int StoryfarmJoinRows(const StoryfarmRows* parts, int count, void* y, int outer, int inner, int channels, int,
                      void* stream) {
  if (count <= 0 || count > kMostParts || channels % kVector != 0) return cudaErrorInvalidValue;
  Parts all{};
  all.count = count;
  int rows = 0;
  for (int i = 0; i < count; ++i) {
    if (!IsWhole(parts[i])) return cudaErrorInvalidValue;
    all.parts[i] = {static_cast<const Raw*>(parts[i].x), parts[i].outer_stride / kVector,
                    parts[i].inner_stride / kVector, parts[i].row_stride / kVector, rows};
    rows += parts[i].rows;
  }
  const int vectors = channels / kVector;
  JoinRows<<<GridOf(rows, vectors, outer * inner), kCopyThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      all, static_cast<Raw*>(y), inner, rows, vectors);
  return cudaGetLastError();
}

int StoryfarmGatherRows(const StoryfarmRows* x, const long* index, void* y, int outer, int rows, int channels, int,
                        void* stream) {
  if (!IsWhole(*x) || channels % kVector != 0) return cudaErrorInvalidValue;
  const int vectors = channels / kVector;
  GatherRows<<<GridOf(rows, vectors, outer), kCopyThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const Raw*>(x->x), x->outer_stride / kVector, x->row_stride / kVector, index, static_cast<Raw*>(y),
      rows, vectors);
  return cudaGetLastError();
}
