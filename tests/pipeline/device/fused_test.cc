// Each operation against its formula in float64, on the CPU and, where there is one, on a CUDA device with kernels.
#include "pipeline/device/fused.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "pipeline/device/device.h"

namespace storyfarm::device {
namespace {

struct Place {
  std::string device;
  at::ScalarType dtype;
};

// Roundings to the format between the steps of a formula, relative to the largest value.
double Tolerance(at::ScalarType dtype) { return dtype == at::kFloat ? 1e-5 : dtype == at::kHalf ? 2e-3 : 2e-2; }

// As other tests' names go: "cuda0_Half".
std::string NameOf(const Place& place) {
  return (place.device == "cpu" ? "cpu_" : "cuda0_") + std::string(c10::toString(place.dtype));
}

class Fused : public ::testing::TestWithParam<Place> {
 protected:
  // Torch looks for CUDA once, which the CPU's tests would be the first to make it do.
  static void SetUpTestSuite() { Device::Open("cuda:0", 1).IgnoreError(); }

  void SetUp() override {
    auto device = Device::Open(GetParam().device, 1);
    if (!device.ok()) GTEST_SKIP() << device.status().message();
    device_ = *std::move(device);
    at::manual_seed(7);
    const at::Tensor here = Random({8, 8});
    if (!device_->torch_device().is_cpu()) {
      ASSERT_TRUE(HasKernels(here))
          << "libstoryfarm_cuda.so is not beside this program: its operations would be torch's";
    }
  }

  at::Tensor Random(at::IntArrayRef shape, double scale = 1, double offset = 0) const {
    at::Tensor x = at::randn(shape, at::kFloat).mul_(scale).add_(offset).to(GetParam().dtype);
    if (shape.size() == 4) x = x.contiguous(at::MemoryFormat::ChannelsLast);
    return x.to(device_->torch_device());
  }
  // float64 where there is little to multiply; a GPU's float32, of as many more bits as matter, where there is much.
  at::Tensor ForProducts(const at::Tensor& x) const { return x.to(x.is_cuda() ? at::kFloat : at::kDouble); }
  static at::Tensor Exact(const at::Tensor& x) { return x.to(at::kCPU, at::kDouble); }
  void ExpectClose(const at::Tensor& actual, const at::Tensor& expected) const {
    ASSERT_EQ(actual.sizes(), expected.sizes());
    const double worst = (Exact(actual) - expected).abs().max().item<double>();
    const double largest = expected.abs().max().item<double>();
    EXPECT_LE(worst, Tolerance(GetParam().dtype) * largest) << "largest value " << largest;
  }

  std::unique_ptr<Device> device_;
};

TEST_P(Fused, GroupNormsSeeEveryCellOfTheirChannels) {
  // Batch, channels, height, width, groups: SDXL's, a picture's of the VAE, and odd ones.
  const std::vector<std::vector<int64_t>> shapes = {{2, 320, 32, 32, 32}, {1, 2560, 8, 8, 32}, {2, 960, 16, 12, 32},
                                                    {1, 128, 96, 96, 32}, {3, 64, 7, 5, 8},    {1, 640, 1, 1, 32}};
  for (const std::vector<int64_t>& s : shapes) {
    for (const bool silu : {false, true}) {
      for (const int shift_rows : {0, 1, 2}) {
        if (shift_rows == 2 && s[0] == 1) continue;
        SCOPED_TRACE(testing::Message() << s[0] << "x" << s[1] << "x" << s[2] << "x" << s[3] << " silu " << silu
                                        << " shift rows " << shift_rows);
        const at::Tensor x = Random({s[0], s[1], s[2], s[3]}, 2, 3);
        const at::Tensor weight = Random({s[1]}), bias = Random({s[1]});
        const at::Tensor shift = shift_rows == 0 ? at::Tensor() : Random({shift_rows == 1 ? 1 : s[0], s[1]});
        at::Tensor shifted = Exact(x);
        if (shift_rows > 0) shifted = shifted + Exact(shift).unsqueeze(-1).unsqueeze(-1);
        at::Tensor expected = at::group_norm(shifted, s[4], Exact(weight), Exact(bias), 1e-5);
        if (silu) expected = at::silu(expected);
        ExpectClose(GroupNorm({x, {}}, shift, s[4], {weight, bias, 1e-5}, silu), expected);
        if (s[1] < 320) continue;
        const auto part = [&](int64_t first, int64_t count) {
          return x.narrow(1, first, count).contiguous(at::MemoryFormat::ChannelsLast);
        };
        // The border lies inside a group.
        const at::Tensor front = part(0, s[1] - 72), rest = part(s[1] - 72, 72);
        ExpectClose(GroupNorm({front, rest}, shift, s[4], {weight, bias, 1e-5}, silu), expected);
      }
    }
  }
}

TEST_P(Fused, AGroupNormOfLargeAndLikeValuesKeepsTheirDifferences) {
  const at::Tensor x = Random({1, 64, 64, 64}, 0.25, 60);
  const at::Tensor weight = Random({64}), bias = Random({64});
  const at::Tensor expected = at::group_norm(Exact(x), 32, Exact(weight), Exact(bias), 1e-5);
  if (GetParam().device == "cpu") GTEST_SKIP() << "torch's own adds squares without taking the mean off first";
  ExpectClose(GroupNorm({x, {}}, {}, 32, {weight, bias, 1e-5}, false), expected);
}

TEST_P(Fused, LayerNormsGoOverTheLastAxis) {
  for (const int64_t channels : {64, 320, 640, 1280, 2048}) {
    SCOPED_TRACE(channels);
    const at::Tensor weight = Random({channels}), bias = Random({channels}), x = Random({2, 77, channels}, 2, 3);
    ExpectClose(LayerNorm(x, {weight, bias, 1e-5}),
                at::layer_norm(Exact(x), {channels}, Exact(weight), Exact(bias), 1e-5));
  }
}

TEST_P(Fused, AGateIsTheSecondHalfOfWhatALayerGives) {
  struct Shape {
    int64_t batch, rows, in, out;
  };
  // The kernel of one pass: less than a tile, tiles and a piece, more tiles than a card has multiprocessors, SDXL's.
  // And what it can't do.
  for (const Shape& s :
       {Shape{1, 5, 64, 128}, Shape{1, 300, 128, 256}, Shape{3, 128, 64, 384}, Shape{2, 4096, 320, 1280},
        Shape{2, 1024, 1280, 5120}, Shape{1, 4096, 640, 2560}, Shape{2, 65, 40, 24}}) {
    if (GetParam().device == "cpu" && s.rows > 1000) continue;
    SCOPED_TRACE(testing::Message() << s.batch << " x " << s.rows << ", " << s.in << " to " << s.out);
    const double scale = 2 / std::sqrt(static_cast<double>(s.in));
    const at::Tensor x = Random({s.batch, s.rows, s.in}), weight = Random({2 * s.out, s.in}, scale),
                     bias = Random({2 * s.out});
    const at::Tensor exact = at::linear(ForProducts(x), ForProducts(weight), ForProducts(bias));
    const auto halves = exact.chunk(2, -1);
    const at::Tensor y = GatedLinear(x, weight, bias);
    ExpectClose(y, Exact(halves[0] * at::gelu(halves[1])));
    EXPECT_TRUE(y.equal(GatedLinear(x, weight, bias))) << "the same bits";
  }
}

TEST_P(Fused, AProductIsAddedToWhatIsThere) {
  struct Shape {
    int64_t rows, in, out, stride;  // of the weight's rows
  };
  for (const Shape& s : {Shape{2048, 1280, 1280, 1280}, Shape{77, 64, 64, 64}, Shape{300, 640, 320, 960},
                         Shape{2048, 5120, 1280, 5120}, Shape{7, 20, 12, 20}}) {
    SCOPED_TRACE(testing::Message() << s.rows << ", " << s.in << " to " << s.out);
    const at::Tensor x = Random({1, s.rows, s.in}), before = Random({1, s.rows, s.out}), bias = Random({s.out});
    const at::Tensor weight =
        Random({s.out, s.stride}, 2 / std::sqrt(static_cast<double>(s.in))).narrow(1, s.stride - s.in, s.in);
    for (const bool biased : {true, false}) {
      at::Tensor sum = before.clone();
      AddLinear(sum, x, weight, biased ? bias : at::Tensor());
      at::Tensor expected = Exact(before) + Exact(at::linear(ForProducts(x), ForProducts(weight)));
      if (biased) expected += Exact(bias);
      ExpectClose(sum, expected);
    }
  }
}

TEST_P(Fused, BiasAndResidualAreAddedInPlace) {
  for (const int64_t channels : {8, 320, 1280}) {
    const at::Tensor before = Random({2, channels, 9, 11}), residual = Random({2, channels, 9, 11});
    const at::Tensor bias = Random({channels});
    at::Tensor x = before.clone();
    AddBias(x, bias, residual);
    const at::Tensor biased = Exact(before) + Exact(bias).view({1, channels, 1, 1});
    ExpectClose(x, biased + Exact(residual));
    x = before.clone();
    AddBias(x, bias, {});
    ExpectClose(x, biased);
  }
}

TEST_P(Fused, AnUpsampledCellIsItsNearestNeighbour) {
  const at::Tensor x = Random({2, 24, 5, 7});
  for (const int64_t height : {10, 9}) {
    const at::Tensor y = Upsample(x, height, 14);
    EXPECT_TRUE(y.equal(at::upsample_nearest2d(x, {height, 14})));
    EXPECT_EQ(y.suggest_memory_format(), x.suggest_memory_format());
  }
}

TEST_P(Fused, RowsAreJoinedAndGatheredWhateverTheirStrides) {
  for (const int64_t channels : {8, 20, 640}) {
    SCOPED_TRACE(channels);
    // As one product gives queries, keys and values.
    const std::vector<at::Tensor> wide = Random({6, 70, 3 * channels}).chunk(3, -1);
    const at::Tensor own = wide[1].unflatten(0, {2, 3});
    const at::Tensor shared = Random({2, 33, channels}).unsqueeze(1).expand({-1, 3, -1, -1});
    EXPECT_TRUE(JoinRows({shared, own, shared}).equal(at::cat({shared, own, shared}, 2)));
    EXPECT_TRUE(JoinRows({own}).equal(own));
    const at::Tensor index = at::randint(0, 210, {101}, at::kLong).to(own.device());
    const at::Tensor rows = wide[2].unflatten(0, {2, 3}).flatten(1, 2);
    EXPECT_TRUE(GatherRows(rows, index).equal(rows.index_select(1, index)));
  }
}

TEST_P(Fused, EightBitsTimesTheirScale) {
  for (const int64_t width : {8, 36, 64, 1280}) {
    const at::Tensor values = at::randint(-127, 128, {5, 7, width}, at::kChar).to(device_->torch_device());
    const at::Tensor scale = Random({5, 7, 1}, 0.01);
    ExpectClose(Unpack(values, scale), Exact(values) * Exact(scale));
  }
}

TEST_P(Fused, PackedRowsComeBackWithinHalfAStep) {
  for (const int64_t width : {8, 36, 320, 1280}) {
    at::Tensor x = Random({70, width}, 3);
    x[5].zero_();
    const at::Tensor values = at::empty({70, width}, x.options().dtype(at::kChar));
    const at::Tensor scale = at::empty({70, 1}, x.options().dtype(at::kHalf));
    Pack(x, values, scale);
    const at::Tensor largest = Exact(x).abs().amax(1, true);
    EXPECT_TRUE(at::allclose(Exact(scale), (largest / 127).clamp_min(6.103515625e-5), 1e-3, 1e-7));
    EXPECT_EQ(values.cpu().abs().amax(1)[0].item<int>(), 127) << "all of the range is used";
    const at::Tensor off = (Exact(values) * Exact(scale) - Exact(x)).abs();
    EXPECT_TRUE((off <= Exact(scale) * 0.5 * (1 + 1e-3) + largest * 1e-3).all().item<bool>());
    x[3][1] = std::numeric_limits<float>::quiet_NaN();
    Pack(x, values, scale);
    EXPECT_TRUE(scale[3].isnan().item<bool>()) << "a reader must see it";
    EXPECT_FALSE(scale[4].isnan().item<bool>());
  }
}

INSTANTIATE_TEST_SUITE_P(Places, Fused,
                         ::testing::Values(Place{"cpu", at::kFloat}, Place{"cuda:0", at::kHalf},
                                           Place{"cuda:0", at::kBFloat16}),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace storyfarm::device
