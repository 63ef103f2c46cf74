// The VAE in tiles draws the picture that it draws whole: at odd sizes, at borders, with the tiny models and the demo
// model, whose pictures fell apart when each tile was normalised by itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "pipeline/base/env.h"
#include "pipeline/sdxl/sdxl.h"

namespace storyfarm::sdxl {
namespace {

constexpr double kTolerance = 1e-4;  // of pictures in [-1, 1]; float32 adds in another order
constexpr char kDemo[] = "deploy/examples/demo-model";

std::unique_ptr<Vae> Load(const std::string& model) {
  const auto folder = model::ModelFolder::Open(base::Env::Real(), STORYFARM_SOURCE_DIR "/" + model);
  EXPECT_TRUE(folder.ok()) << folder.status();
  auto vae = LoadVae(*folder, {});
  EXPECT_TRUE(vae.ok()) << vae.status();
  return *std::move(vae);
}

// Latents whose parts differ, as a picture's do: a bright corner and a flat one in noise.
at::Tensor Latents(int64_t batch, int64_t height, int64_t width) {
  at::manual_seed(5);
  at::Tensor latents = at::randn({batch, 4, height, width}) * 0.8;
  latents.narrow(2, 0, height / 2).narrow(3, 0, width / 3).add_(3);
  latents.narrow(2, height / 2, height - height / 2).narrow(3, width / 3, width / 2).mul_(0.05);
  return latents;
}

double Largest(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

struct Case {
  const char* model;
  int64_t height, width, tile;
};

class VaeTiles : public ::testing::TestWithParam<Case> {};

TEST_P(VaeTiles, DrawTheWholePicture) {
  const Case& c = GetParam();
  const auto vae = Load(c.model);
  const at::Tensor latents = Latents(1, c.height, c.width);
  const at::Tensor whole = vae->Decode(latents);
  const at::Tensor tiled = vae->Decode(latents, c.tile);
  ASSERT_EQ(tiled.sizes(), whole.sizes());
  const double difference = Largest(tiled, whole);
  std::printf("%-28s %lld x %lld latents, tiles of %-2lld: largest difference %.1e, pictures up to %.1f\n", c.model,
              static_cast<long long>(c.height), static_cast<long long>(c.width), static_cast<long long>(c.tile),
              difference, whole.abs().max().item<double>());
  EXPECT_LE(difference, kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Sizes, VaeTiles,
                         ::testing::Values(Case{kDemo, 32, 32, 24},                     // a last tile of a third
                                           Case{kDemo, 32, 32, 8},                      // neighbours all around
                                           Case{kDemo, 33, 25, 16},                     // a last row one latent high
                                           Case{kDemo, 8, 41, 16},                      // one row of tiles
                                           Case{"tests/data/tiny_sdxl", 13, 29, 8},     // odd on every level
                                           Case{"tests/data/tiny_options", 17, 12, 8},  // two levels, shift
                                           Case{"tests/data/tiny_options", 24, 24, 12}));

TEST(VaeTilesTest, EachPictureOfABatchHasStatisticsOfItsOwn) {
  const auto vae = Load("tests/data/tiny_sdxl");
  at::Tensor latents = Latents(2, 16, 16);
  latents[1].mul_(0.3).add_(1);
  EXPECT_LE(Largest(vae->Decode(latents, 8), vae->Decode(latents)), kTolerance);
}

TEST(VaeTilesTest, OneTileIsTheWholePictureToTheLastBit) {
  const auto vae = Load(kDemo);
  const at::Tensor latents = Latents(1, 16, 12);
  EXPECT_TRUE(vae->Decode(latents, 16).equal(vae->Decode(latents)));
}

TEST(VaeTilesTest, TheGivenLatentsStayAsTheyAre) {
  const auto vae = Load("tests/data/tiny_sdxl");
  const at::Tensor latents = Latents(1, 16, 16), before = latents.clone();
  vae->Decode(latents, 8);
  EXPECT_TRUE(latents.equal(before));
}

TEST(VaeTilesTest, NoSeamStandsBetweenTiles) {
  const auto vae = Load(kDemo);
  const at::Tensor latents = Latents(1, 32, 32);
  const at::Tensor error = vae->Decode(latents, 8) - vae->Decode(latents);
  // Mean step of the difference from each column to the next: rounding has none that stands out at tiles' edges.
  const int64_t width = error.size(3);
  const at::Tensor steps =
      (error.narrow(3, 1, width - 1) - error.narrow(3, 0, width - 1)).abs().mean(at::IntArrayRef{0, 1, 2});
  EXPECT_LT(steps.max().item<double>(), 1e-5);
}

TEST(VaeTilesTest, TilesSmallerThanTheirHaloAreRefused) {
  const auto vae = Load("tests/data/tiny_sdxl");
  EXPECT_THROW(vae->Decode(Latents(1, 16, 16), 4), c10::Error);
}

}  // namespace
}  // namespace storyfarm::sdxl
