#include "pipeline/sdxl/freeu.h"

#include <cmath>
#include <numbers>
#include <vector>

namespace storyfarm::sdxl {
namespace {

// A job has one size, two grids of it carry FreeU, and panels may override the size.
constexpr size_t kCachedBases = 16;

}  // namespace

const at::Tensor& SkipFilter::Basis(int64_t height, int64_t width, at::Device device) {
  const auto found = bases_.find({height, width});
  if (found != bases_.end() && found->second.device() == device) return found->second;

  // Over an axis of one element frequencies -1 and 0 are the same one.
  std::vector<std::pair<int, int>> frequencies;
  for (int ky = height > 1 ? -1 : 0; ky <= 0; ++ky) {
    for (int kx = width > 1 ? -1 : 0; kx <= 0; ++kx) frequencies.emplace_back(ky, kx);
  }
  // The term of frequency k is X(k) e^{i t} / HW with t = 2 pi (ky y / H + kx x / W) and X(k) = sum x e^{-i t}; its
  // real part is (A cos t + B sin t) / HW with A = sum x cos t, B = sum x sin t.
  std::vector<float> rows;
  int64_t row_count = 0;
  const double norm = 1.0 / std::sqrt(static_cast<double>(height * width));
  for (const auto& [ky, kx] : frequencies) {
    const bool constant = ky == 0 && kx == 0;
    for (const bool sine : {false, true}) {
      if (sine && constant) continue;
      ++row_count;
      for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = 0; x < width; ++x) {
          const double t = 2 * std::numbers::pi *
                           (static_cast<double>(ky * y) / static_cast<double>(height) +
                            static_cast<double>(kx * x) / static_cast<double>(width));
          rows.push_back(static_cast<float>(norm * (sine ? std::sin(t) : std::cos(t))));
        }
      }
    }
  }
  if (bases_.size() >= kCachedBases) bases_.clear();
  at::Tensor& basis = bases_[{height, width}];
  basis = at::from_blob(rows.data(), {row_count, height * width}, at::kFloat).clone().to(device);
  return basis;
}

at::Tensor SkipFilter::operator()(const at::Tensor& skip, double scale) {
  const int64_t height = skip.size(2), width = skip.size(3);
  const at::Tensor& basis = Basis(height, width, skip.device());
  const at::Tensor flat = skip.to(at::kFloat).reshape({skip.size(0), skip.size(1), height * width});
  const at::Tensor low = at::matmul(at::matmul(flat, basis.t()), basis);
  return at::add(flat, low, scale - 1).view(skip.sizes()).to(skip.scalar_type());
}

void ScaleBackbone(at::Tensor& hidden, double factor) { hidden.narrow(1, 0, hidden.size(1) / 2).mul_(factor); }

}  // namespace storyfarm::sdxl
