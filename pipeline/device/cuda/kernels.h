// The library storyfarm_cuda as those see it that load it: plain C, without headers of torch or CUDA, so that one
// binary serves machines with and without it. pipeline/device/fused.h says what each operation is; these are one pass
// over device memory each, or two.
//
// Elements are half or bfloat16, arithmetic is float32. Images are channels last: a cell's channels lie together, and
// there are a multiple of kVector of them. Pointers are aligned to 16 bytes. All return a cudaError_t, 0 for success,
// and run on `stream` (a cudaStream_t). Same input, same bits: sums are added in a fixed order.
#ifndef STORYFARM_PIPELINE_DEVICE_CUDA_KERNELS_H_
#define STORYFARM_PIPELINE_DEVICE_CUDA_KERNELS_H_

extern "C" {

enum { kVector = 8, kMostGroups = 64, kMostChannels = 4096 };  // the last but for Geglu

enum StoryfarmElement { kElementHalf = 0, kElementBfloat16 = 1 };

typedef struct {
  const void* x;       // [batch, cells, channels], or their first `first_channels` where `rest` has the others
  const void* rest;    // [batch, cells, channels - first_channels], or null
  const void* shift;   // added to x first: [batch, channels], or one row for all images; may be null
  const void* weight;  // [channels]
  const void* bias;    // [channels]
  void* y;             // as x
  float* moments;      // scratch: StoryfarmGroupNormScratch floats
  int batch, cells, channels, groups;
  int first_channels;  // a multiple of kVector; `channels` where rest is null
  int shift_stride;    // elements from one image's shift to the next; 0: one row for all
  float eps;
  int silu;  // 1: of the result
} StoryfarmGroupNorm;

// Floats of scratch that a call needs.
int StoryfarmGroupNormScratch(int batch, int cells, int channels, int groups);
int StoryfarmGroupNormRun(const StoryfarmGroupNorm* call, int element, void* stream);

// y = layer_norm(x) over the last axis. [rows, channels].
int StoryfarmLayerNorm(const void* x, const void* weight, const void* bias, void* y, int rows, int channels, float eps,
                       int element, void* stream);

// y = a gelu(b) with exact gelu, of x = [a, b] in the last axis. x [rows, 2 channels] -> y [rows, channels].
int StoryfarmGeglu(const void* x, void* y, int rows, int channels, int element, void* stream);

// Whether the device at work has the next one; in is a multiple of 64, out of 128.
int StoryfarmHasGatedProduct(int in, int out);
// y = a gelu(b), [a, b] = x weight^T + bias. x [rows, in], weight [2 out, in], bias [2 out] -> y [rows, out].
int StoryfarmGatedProduct(const void* x, const void* weight, const void* bias, void* y, int rows, int in, int out,
                          int element, void* stream);

typedef struct {
  const void* x;       // [rows, in]
  const void* weight;  // [out, in], a row `weight_stride` elements after the other
  const void* bias;    // [out], or null
  void* sum;           // [rows, out]
  void* workspace;     // of kProductWorkspace bytes
  int rows, in, out, weight_stride;
} StoryfarmAddProduct;
enum { kProductWorkspace = 8 << 20 };
// sum += x weight^T + bias, rounded once. By the library that torch takes products from.
int StoryfarmAddProductRun(const StoryfarmAddProduct* call, int element, void* stream);

enum { kMostParts = 8 };
// [outer, inner, rows, channels], a row's channels together; strides in elements, multiples of kVector.
typedef struct {
  const void* x;
  long outer_stride, inner_stride, row_stride;
  int rows;
} StoryfarmRows;
// One after the other: y [outer, inner, sum of rows, channels]. count <= kMostParts.
int StoryfarmJoinRows(const StoryfarmRows* parts, int count, void* y, int outer, int inner, int channels, int element,
                      void* stream);
// Rows of x that index[0, rows) names, the same of each of `outer`: y [outer, rows, channels]. x's inner_stride is not
// used.
int StoryfarmGatherRows(const StoryfarmRows* x, const long* index, void* y, int outer, int rows, int channels,
                        int element, void* stream);

// Each cell of x four times: x [batch, height, width, channels] -> y [batch, 2 height, 2 width, channels].
int StoryfarmUpsample(const void* x, void* y, int batch, int height, int width, int channels, int element,
                      void* stream);

// x += bias + residual, which may be null. [cells, channels]; bias [channels].
int StoryfarmAddBias(void* x, const void* bias, const void* residual, long cells, int channels, int element,
                     void* stream);

// y = x scale, of int8 in groups that lie together, each with a scale of the element's type. [groups, width]; width is
// a multiple of kVector.
int StoryfarmUnpack(const signed char* x, const void* scale, void* y, long groups, int width, int element,
                    void* stream);

// The reverse: y = x / scale rounded to the nearest, scale = the row's largest magnitude / 127 as half. [rows, width].
int StoryfarmPack(const void* x, signed char* y, void* scale, int rows, int width, int element, void* stream);

// Work of the current stream, which must not be the default one, recorded between Begin and End and done again by each
// Replay on the then current stream. What is allocated meanwhile lies in the pool, two numbers: zeros ask for a new
// one, and become its name. Graphs of one pool are replayed in the order of their recording. These throw c10::Error.
typedef struct StoryfarmGraph StoryfarmGraph;
StoryfarmGraph* StoryfarmGraphBegin(unsigned long long pool[2]);
void StoryfarmGraphEnd(StoryfarmGraph* graph);
void StoryfarmGraphReplay(StoryfarmGraph* graph);
void StoryfarmGraphDelete(StoryfarmGraph* graph);

// The most that torch's allocator may reserve of a device, as a share of its memory; counts from now on. Throws
// c10::Error.
void StoryfarmCapMemory(double share, int ordinal);
}

#endif  // STORYFARM_PIPELINE_DEVICE_CUDA_KERNELS_H_
