#include "pipeline/page/resample.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace storyfarm::page {
namespace {

constexpr int kWeightBits = 14;
constexpr int32_t kWeightOne = 1 << kWeightBits;

// What one pixel of the result takes of the source: weights of pixels first, first + 1, ...; they sum to kWeightOne.
struct Taps {
  uint32_t first = 0;
  std::vector<int32_t> weights;
};

double CatmullRom(double x) {
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

std::vector<Taps> TapsFor(uint32_t from, uint32_t to) {
  const double scale = static_cast<double>(from) / to;
  const double widen = std::max(scale, 1.0);
  std::vector<Taps> all(to);
  for (uint32_t i = 0; i < to; ++i) {
    const double centre = (i + 0.5) * scale - 0.5;
    const auto low = static_cast<int64_t>(std::floor(centre - 2 * widen)) + 1;
    const auto high = static_cast<int64_t>(std::ceil(centre + 2 * widen)) - 1;
    const int64_t last = static_cast<int64_t>(from) - 1;
    Taps& taps = all[i];
    taps.first = static_cast<uint32_t>(std::clamp<int64_t>(low, 0, last));
    const auto end = std::clamp<int64_t>(high, 0, last);
    std::vector<double> weights(static_cast<size_t>(end - taps.first + 1), 0);
    double sum = 0;
    for (int64_t j = low; j <= high; ++j) {
      const double weight = CatmullRom((static_cast<double>(j) - centre) / widen);
      weights[static_cast<size_t>(std::clamp<int64_t>(j, 0, last) - taps.first)] += weight;
      sum += weight;
    }
    int32_t rest = kWeightOne;
    for (const double weight : weights) {
      taps.weights.push_back(static_cast<int32_t>(std::lround(weight / sum * kWeightOne)));
      rest -= taps.weights.back();
    }
    // Rounding is put right where it shows least: at the heaviest tap.
    *std::max_element(taps.weights.begin(), taps.weights.end()) += rest;
  }
  return all;
}

char ToByte(int64_t sum) {
  return static_cast<char>(std::clamp<int64_t>((sum + kWeightOne / 2) >> kWeightBits, 0, 255));
}

}  // namespace

Picture Resample(const Picture& picture, uint32_t width, uint32_t height) {
  if (width == picture.width && height == picture.height) return picture;
  const std::vector<Taps> across = TapsFor(picture.width, width);
  const std::vector<Taps> down = TapsFor(picture.height, height);
  Picture wide{width, picture.height, std::string(size_t{3} * width * picture.height, '\0')};
  for (size_t y = 0; y < picture.height; ++y) {
    const auto* row = reinterpret_cast<const unsigned char*>(picture.rgb.data()) + y * picture.width * 3;
    char* out = wide.rgb.data() + y * width * 3;
    for (const Taps& taps : across) {
      int64_t sum[3] = {0, 0, 0};
      const unsigned char* pixel = row + size_t{3} * taps.first;
      for (const int32_t weight : taps.weights) {
        for (int c = 0; c < 3; ++c) sum[c] += int64_t{weight} * *pixel++;
      }
      for (const int64_t value : sum) *out++ = ToByte(value);
    }
  }
  const size_t stride = size_t{3} * width;
  Picture result{width, height, std::string(stride * height, '\0')};
  std::vector<int64_t> sums(stride);
  for (size_t y = 0; y < height; ++y) {
    std::fill(sums.begin(), sums.end(), 0);
    for (size_t t = 0; t < down[y].weights.size(); ++t) {
      const auto* row = reinterpret_cast<const unsigned char*>(wide.rgb.data()) + (down[y].first + t) * stride;
      for (size_t x = 0; x < stride; ++x) sums[x] += int64_t{down[y].weights[t]} * row[x];
    }
    for (size_t x = 0; x < stride; ++x) result.rgb[y * stride + x] = ToByte(sums[x]);
  }
  return result;
}

}  // namespace storyfarm::page
