// The decoder in tiles: vae_decoder.h says how.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "pipeline/sdxl/vae_decoder.h"

namespace storyfarm::sdxl {
namespace {

// Scores of the middle block's attention at a time: 32 MiB in float32, twice that with its softmax.
constexpr int64_t kMostScores = int64_t{1} << 23;
// Elements of a map that lie there as float32, too, while they are measured: 32 MiB.
constexpr int64_t kMostMeasured = int64_t{1} << 23;

// Mean and variance of each channel of a map, added up piece by piece (Chan, Golub, LeVeque 1979), and what a group
// norm makes of them.
class ChannelMoments {
 public:
  void Add(const at::Tensor& x) {  // [1, C, h, w]
    const int64_t rows = std::max<int64_t>(1, kMostMeasured / (x.size(1) * x.size(3)));
    for (int64_t top = 0; top < x.size(2); top += rows) AddPiece(x.narrow(2, top, std::min(rows, x.size(2) - top)));
  }

  // The norm as factor and addend of each channel, [1, C, 1, 1] like `like`.
  std::pair<at::Tensor, at::Tensor> Affine(const GroupNorm& norm, const at::Tensor& like) const {
    const int64_t channels = mean_.size(0);
    const at::Tensor means = mean_.view({norm.groups(), -1});
    const at::Tensor mean = means.mean(1, /*keepdim=*/true);
    const at::Tensor variance =
        ((squares_ / count_).view({norm.groups(), -1}) + (means - mean).square()).mean(1, /*keepdim=*/true);
    const auto per_channel = [&](const at::Tensor& groups) { return groups.expand_as(means).reshape({channels}); };
    const at::Tensor factor = norm.weight().to(mean_.options()) * per_channel((variance + norm.eps()).rsqrt());
    const at::Tensor addend = norm.bias().to(mean_.options()) - per_channel(mean) * factor;
    const auto placed = [&](const at::Tensor& x) { return x.to(like.options()).view({1, channels, 1, 1}); };
    return {placed(factor), placed(addend)};
  }

 private:
  void AddPiece(const at::Tensor& x) {
    const auto [variance, mean] = at::var_mean(x.to(at::kFloat), at::IntArrayRef{0, 2, 3}, /*correction=*/0);
    // Apple's GPUs have no float64; others need not wait for each piece.
    const at::Device where = x.is_mps() ? at::Device(at::kCPU) : x.device();
    const at::Tensor piece_mean = mean.to(where, at::kDouble);
    const auto piece_count = static_cast<double>(x.size(2) * x.size(3));
    const at::Tensor piece_squares = variance.to(where, at::kDouble) * piece_count;
    if (count_ == 0) {
      mean_ = piece_mean;
      squares_ = piece_squares;
    } else {
      const at::Tensor delta = piece_mean - mean_;
      const double total = count_ + piece_count;
      squares_ = squares_ + piece_squares + delta * delta * (count_ * piece_count / total);
      mean_ = mean_ + delta * (piece_count / total);
    }
    count_ += piece_count;
  }

  double count_ = 0;           // cells
  at::Tensor mean_, squares_;  // [C] float64; squares: sum of squared distances from the mean
};

// A tile on its way through a segment: its inside is [top, left, height, width] of x.
struct Patch {
  at::Tensor x;  // [1, C, h, w]
  int64_t top = 0, left = 0, height = 0, width = 0;

  at::Tensor Inside(const at::Tensor& of) const { return of.narrow(2, top, height).narrow(3, left, width); }
};

// What a sweep does at each norm of a segment: those known are applied, the next one is measured.
class SegmentNorms {
 public:
  // A sweep ends at its first norm that is not known, unless it is the last sweep, for which all are.
  void BeginTile() { at_ = 0; }
  // `x` normalised; undefined where this sweep measures here.
  at::Tensor Apply(const GroupNorm& norm, const at::Tensor& x, const Patch& patch) {
    if (at_ == known_.size()) {
      measured_.Add(patch.Inside(x));
      measuring_ = &norm;
      return {};
    }
    const auto& [factor, addend] = known_[at_++];
    return at::addcmul(addend, x, factor);
  }
  // After a sweep that measured.
  void EndSweep(const at::Tensor& like) {
    known_.push_back(measured_.Affine(*measuring_, like));
    measured_ = {};
  }
  size_t known() const { return known_.size(); }

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> known_;
  ChannelMoments measured_;
  const GroupNorm* measuring_ = nullptr;
  size_t at_ = 0;
};

// What lies between two maps that are kept whole.
struct Segment {
  const Upsample* upsample = nullptr;  // first, where there is one
  std::vector<const ResnetBlock*> resnets;
  const VaeDecoder* end = nullptr;  // its norm and conv_out come last, where set

  size_t norms() const { return 2 * resnets.size() + (end != nullptr ? 1 : 0); }
  int64_t scale() const { return upsample != nullptr ? 2 : 1; }
  // Cells of the map beyond a tile's inside that its values depend on: one a convolution of 3 x 3, at its own scale.
  int64_t halo() const {
    const int64_t behind = 2 * static_cast<int64_t>(resnets.size()) + (end != nullptr ? 1 : 0);
    return upsample != nullptr ? (behind + 2) / 2 : behind;
  }
  bool keeps_shape() const { return upsample == nullptr && end == nullptr && !resnets.front()->changes_channels(); }
};

// Runs the segment over one tile as far as norms are known. False: it was measured, `patch` is of no further use.
bool Run(const Segment& segment, Patch& patch, SegmentNorms& norms) {
  norms.BeginTile();
  if (segment.upsample != nullptr) {
    patch.x = (*segment.upsample)(patch.x, 2 * patch.x.size(2), 2 * patch.x.size(3));
    for (int64_t* length : {&patch.top, &patch.left, &patch.height, &patch.width}) *length *= 2;
  }
  for (const ResnetBlock* resnet : segment.resnets) {
    at::Tensor h = norms.Apply(resnet->norm1(), patch.x, patch);
    if (!h.defined()) return false;
    h = resnet->AfterNorm1(std::move(h));
    h = norms.Apply(resnet->norm2(), h, patch);
    if (!h.defined()) return false;
    patch.x = resnet->AfterNorm2(std::move(h), patch.x);
  }
  if (segment.end != nullptr) {
    patch.x = norms.Apply(segment.end->norm, patch.x, patch);
    if (!patch.x.defined()) return false;
    patch.x = segment.end->out(at::silu_(patch.x)).to(at::kFloat);
  }
  return true;
}

// Calls `work(top, patch)` for each tile of a row whose inside is [top, top + height) of the map. `rows` are the map's
// rows from `first_row` on, halo included.
template <typename Work>
void ForEachTileOfRow(const Segment& segment, const at::Tensor& rows, int64_t first_row, int64_t top, int64_t height,
                      int64_t tile, const Work& work) {
  const int64_t width = rows.size(3), halo = segment.halo();
  for (int64_t left = 0; left < width; left += tile) {
    const int64_t inside = std::min(tile, width - left);
    const int64_t from = std::max<int64_t>(0, left - halo), to = std::min(width, left + inside + halo);
    work(left, Patch{rows.narrow(3, from, to - from).contiguous(rows.suggest_memory_format()), top - first_row,
                     left - from, height, inside});
  }
}

// The map after the segment. `tile`: cells of `map` an edge.
at::Tensor RunSegment(const Segment& segment, at::Tensor map, int64_t tile) {
  const int64_t height = map.size(2), halo = segment.halo(), scale = segment.scale();
  const auto rows_of = [&](int64_t from, int64_t to) { return map.narrow(2, from, to - from); };
  SegmentNorms norms;
  while (norms.known() < segment.norms()) {
    for (int64_t top = 0; top < height; top += tile) {
      const int64_t inside = std::min(tile, height - top);
      const int64_t from = std::max<int64_t>(0, top - halo), to = std::min(height, top + inside + halo);
      ForEachTileOfRow(segment, rows_of(from, to), from, top, inside, tile,
                       [&](int64_t, Patch patch) { Run(segment, patch, norms); });
    }
    norms.EndSweep(map);
  }
  at::Tensor result = segment.keeps_shape() ? map : at::Tensor();
  at::Tensor above;  // rows just above the tile as they were, where the map is overwritten
  for (int64_t top = 0; top < height; top += tile) {
    const int64_t inside = std::min(tile, height - top);
    const int64_t to = std::min(height, top + inside + halo);
    int64_t from = std::max<int64_t>(0, top - halo);
    at::Tensor rows = rows_of(from, to);
    if (segment.keeps_shape()) {
      rows = above.defined() ? at::cat({above, rows_of(top, to)}, 2) : rows.clone();
      from = to - rows.size(2);
      const int64_t kept = std::min(halo, inside);
      above = rows_of(top + inside - kept, top + inside).clone();
    }
    ForEachTileOfRow(segment, rows, from, top, inside, tile, [&](int64_t left, Patch patch) {
      Run(segment, patch, norms);
      if (!result.defined()) {
        result = at::empty({1, patch.x.size(1), height * scale, map.size(3) * scale},
                           patch.x.options().memory_format(patch.x.suggest_memory_format()));
      }
      result.narrow(2, top * scale, patch.height).narrow(3, left * scale, patch.width).copy_(patch.Inside(patch.x));
    });
  }
  return result;
}

at::Tensor DecodeOne(const VaeDecoder& decoder, const at::Tensor& z, int64_t tile) {
  at::Tensor map = decoder.middle(decoder.in(z), kMostScores);
  const Upsample* upsample = nullptr;  // on the way to the level at hand
  int64_t cells = tile;                // a tile's edge on the map at hand
  for (size_t l = 0; l < decoder.levels.size(); ++l) {
    const VaeDecoder::Level& level = decoder.levels[l];
    if (l + 1 == decoder.levels.size()) {
      Segment last{.upsample = upsample, .end = &decoder};
      for (const ResnetBlock& resnet : level.resnets) last.resnets.push_back(&resnet);
      return RunSegment(last, std::move(map), cells);
    }
    for (const ResnetBlock& resnet : level.resnets) {
      const Segment segment{.upsample = upsample, .resnets = {&resnet}};
      map = RunSegment(segment, std::move(map), cells);
      cells *= segment.scale();
      upsample = nullptr;
    }
    upsample = &*level.upsample;
  }
  return map;
}

}  // namespace

at::Tensor DecodeInTiles(const VaeDecoder& decoder, const at::Tensor& z, int64_t tile) {
  TORCH_CHECK(tile >= kLeastVaeTile, "VAE tiles of ", tile, " latents are too small: at least ", kLeastVaeTile);
  if (z.size(0) == 1) return DecodeOne(decoder, z, tile);
  std::vector<at::Tensor> pictures;
  for (int64_t b = 0; b < z.size(0); ++b) pictures.push_back(DecodeOne(decoder, z.narrow(0, b, 1), tile));
  return at::cat(pictures, 0);
}

}  // namespace storyfarm::sdxl
