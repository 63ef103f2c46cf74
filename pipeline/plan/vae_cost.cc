#include "pipeline/plan/vae_cost.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "pipeline/plan/cost.h"

namespace storyfarm::plan {
namespace {

using farm::v1::GroupShape;
using farm::v1::MemoryPlan;
using farm::v1::ModelProfile;

// SDXL's decoder has three resnets a level; a model with fewer is counted as if it had as many.
constexpr int kResnets = 3;
// Maps alive at once: input of a resnet, its norm, its output; around the middle block's attention also its
// projections.
constexpr double kResnetMaps = 3;
constexpr double kAttentionMaps = 7;
// The picture: decoded, its copy on the way to bytes, the bytes.
constexpr double kPictures = 2.25;
constexpr double kPictureChannels = 3;
// Scores of the tiled middle block's attention at a time (sdxl/vae_tiles.cc), in fp32 with their softmax.
constexpr double kTiledScores = 8'388'608;
constexpr double kScoreBytes = 8;
// Cells beyond a tile's inside, at a level's own scale: two convolutions of 3 x 3 a resnet, one behind an upsampling.
constexpr double kResnetHalo = 2;
constexpr double kUpsampledHalo = 4;
constexpr double kFinestHalo = 2 * (kResnets + 1);

// One level of the decoder, from the latents' grid to the picture's.
struct Level {
  double in, out;        // channels before and after its first resnet
  double width, height;  // cells
  bool upsampled;        // from the level before
  bool finest;

  double cells() const { return width * height; }
};

std::vector<Level> LevelsOf(const ModelProfile& model, const GroupShape& shape) {
  std::vector<Level> levels;
  const int count = model.vae_channels_size();
  double scale = 1.0 / model.vae_scale_factor();
  for (int i = 0; i < count; ++i) {
    const double own = model.vae_channels(count - 1 - i);
    const double before = i == 0 ? own : model.vae_channels(count - i);
    levels.push_back({before, own, shape.width() * scale, shape.height() * scale, i > 0, i + 1 == count});
    scale *= 2;
  }
  return levels;
}

// Cells of all tiles with their halos over those of the map, where `edge` is a tile's inside.
double Overlap(const Level& level, double edge, double halo) {
  const auto along = [&](double length) { return 1 + 2 * halo * (std::ceil(length / edge) - 1) / length; };
  return along(level.width) * along(level.height);
}

double Conv(double in, double out, double cells) { return 2 * 9 * in * out * cells; }

struct ResnetFlop {
  double first, rest;  // up to the second norm, and from there
  double all() const { return first + rest; }
};
ResnetFlop ResnetOf(double in, double out, double cells) {
  return {Conv(in, out, cells), Conv(out, out, cells) + (in == out ? 0 : 2 * in * out * cells)};
}

double WholeLevelFlop(const Level& level) {
  const double cells = level.cells();
  return (level.upsampled ? Conv(level.in, level.in, cells) : 0) + ResnetOf(level.in, level.out, cells).all() +
         (kResnets - 1) * ResnetOf(level.out, level.out, cells).all();
}

// Each resnet by itself: a sweep to its first norm, one to its second, one to its end.
double CoarseLevelFlop(const Level& level, double edge) {
  const double cells = level.cells();
  const double up = level.upsampled ? Conv(level.in, level.in, cells) : 0;
  const ResnetFlop first = ResnetOf(level.in, level.out, cells), later = ResnetOf(level.out, level.out, cells);
  return (3 * up + first.first + first.all()) * Overlap(level, edge, level.upsampled ? kUpsampledHalo : kResnetHalo) +
         (kResnets - 1) * (later.first + later.all()) * Overlap(level, edge, kResnetHalo);
}

// All of it in one segment: each sweep from the map below.
double FinestLevelFlop(const Level& level, double edge) {
  const double cells = level.cells();
  double before = level.upsampled ? Conv(level.in, level.in, cells) : 0;
  double flop = 0;
  for (int i = 0; i < kResnets; ++i) {
    const ResnetFlop resnet = ResnetOf(i == 0 ? level.in : level.out, level.out, cells);
    flop += before + (before + resnet.first);
    before += resnet.all();
  }
  flop += before + before + Conv(level.out, kPictureChannels, cells);
  return flop * Overlap(level, edge, kFinestHalo);
}

// The middle block, at the latents' grid.
double MiddleFlop(const Level& coarsest) {
  const double cells = coarsest.cells(), channels = coarsest.in;
  return 2 * ResnetOf(channels, channels, cells).all() + 4 * cells * cells * channels + 8 * channels * channels * cells;
}

// Beside a convolution's own input and output: its input in the order that the kernel reads.
double CopiesOf(const BackendTraits& backend) { return backend.convolutions_copy_input ? 1 : 0; }

// `kernels`: norms are our own, which leave nothing beside their result.
double WholeElements(const std::vector<Level>& levels, bool kernels, double copies) {
  double widest = 0;
  for (const Level& level : levels) {
    double maps = kResnetMaps * level.in + copies * level.out;
    if (kernels) maps = 2 * level.in + level.out;
    widest = std::max(widest, maps * level.cells());
  }
  return widest;
}

// A tile of a level with its halo at the widest point of its first resnet, or of the upsampling before.
double TileElements(const Level& level, double edge, double halo, double copies) {
  const double cells = std::min(level.width, edge + 2 * halo) * std::min(level.height, edge + 2 * halo);
  return cells * (std::max(2 * level.in + level.out, level.upsampled ? 2.25 * level.in : 0) + copies * level.in);
}

// `picture`: bytes of its float32 pixels, which fill up while the finest level runs.
double TiledBytes(const std::vector<Level>& levels, double tile, double element, double picture, double copies) {
  double widest = (kResnetMaps + copies) * levels.front().in * levels.front().cells() * element;
  double below = levels.front().in * levels.front().cells();  // the map that the level starts from
  double edge = tile;
  for (const Level& level : levels) {
    if (level.finest) {
      widest = std::max(widest, (below + TileElements(level, edge, kFinestHalo, copies)) * element + picture);
      break;
    }
    const double own = level.out * level.cells();
    widest = std::max(widest, (below + own + TileElements(level, edge, kUpsampledHalo, copies)) * element);
    // The later resnets overwrite the map, beside a copy of the rows that they read.
    const double rows = level.out * level.width * std::min(level.height, edge + 2 * kResnetHalo);
    const Level later = {level.out, level.out, level.width, level.height, false, false};
    widest = std::max(widest, (own + rows + TileElements(later, edge, kResnetHalo, copies)) * element);
    below = own;
    edge *= 2;
  }
  return widest;
}

}  // namespace

bool VaeIsTiled(const ModelProfile& model, const GroupShape& shape, uint32_t tile) {
  return tile > 0 && tile * model.vae_scale_factor() < std::max(shape.width(), shape.height());
}

double VaeDecodeBytes(const ModelProfile& model, const GroupShape& shape, const MemoryPlan& plan,
                      const BackendTraits& backend) {
  const std::vector<Level> levels = LevelsOf(model, shape);
  if (levels.empty()) return 0;
  const double element = static_cast<double>(DtypeBytes(plan.vae_dtype()));
  const bool tiled = VaeIsTiled(model, shape, plan.vae_tile());
  const double tokens = levels.front().cells();
  const double picture = kPictureChannels * shape.width() * shape.height() * 4;
  const double convolutions =
      tiled ? TiledBytes(levels, plan.vae_tile(), element, picture, CopiesOf(backend))
            : WholeElements(levels, HasKernels(backend, plan.vae_dtype()), CopiesOf(backend)) * element;
  double attention = kAttentionMaps * levels.front().in * tokens * element;
  const double scores = tiled ? std::min(kTiledScores, tokens * tokens) : tokens * tokens;
  if (backend.attention_materialises_scores) attention += scores * kScoreBytes;
  return std::max({convolutions, attention, kPictures * picture});
}

double VaeDecodeTflop(const ModelProfile& model, const GroupShape& shape, uint32_t tile) {
  const std::vector<Level> levels = LevelsOf(model, shape);
  if (levels.empty()) return 0;
  const bool tiled = VaeIsTiled(model, shape, tile);
  double flop = MiddleFlop(levels.front());
  double edge = tile;
  for (const Level& level : levels) {
    if (!tiled) {
      flop += WholeLevelFlop(level);
    } else {
      flop += level.finest ? FinestLevelFlop(level, edge) : CoarseLevelFlop(level, edge);
    }
    edge *= 2;
  }
  return flop * 1e-12;
}

}  // namespace storyfarm::plan
