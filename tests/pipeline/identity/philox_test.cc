// Draws are fixed for ever: these vectors may never change, or saved packs and stories would draw other pictures.
#include "pipeline/identity/philox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>
#include <vector>

#include "pipeline/identity/draws.h"

namespace storyfarm::identity {
namespace {

using ::testing::ElementsAre;

TEST(Philox, GivesTheVectorsOfRandom123) {
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(Philox, NormalsHaveTheMomentsOfANormal) {
  constexpr int64_t kCount = 100'000;
  const std::vector<float> values = Normals({1, 2}, {}, kCount);
  double sum = 0, squares = 0, fourth = 0;
  for (const float value : values) {
    sum += value;
    squares += double{value} * value;
    fourth += std::pow(double{value}, 4);
  }
  // Four standard errors of each moment's estimate.
  EXPECT_NEAR(sum / kCount, 0, 4 / std::sqrt(kCount));
  EXPECT_NEAR(squares / kCount, 1, 4 * std::sqrt(2.0 / kCount));
  EXPECT_NEAR(fourth / kCount, 3, 4 * std::sqrt(96.0 / kCount));
}

TEST(Philox, APrefixOfALongerDrawIsTheShorterDraw) {
  const std::vector<float> seven = Normals({3, 4}, {0, 1, 2, 3}, 7), hundred = Normals({3, 4}, {0, 1, 2, 3}, 100);
  EXPECT_TRUE(std::equal(seven.begin(), seven.end(), hundred.begin()));
}

TEST(Philox, KeptTokensAreDistinctAscendingAndEveryTokenIsAsLikely) {
  constexpr int64_t kTokens = 15, kKeep = 8;
  constexpr int kRounds = 4000;
  std::vector<int> counts(kTokens, 0);
  for (uint32_t round = 0; round < kRounds; ++round) {
    const std::vector<int32_t> kept = DistinctTokens({5, 6}, {0, round, 0, 0}, kTokens, kKeep);
    ASSERT_EQ(kept.size(), static_cast<size_t>(kKeep));
    ASSERT_TRUE(std::is_sorted(kept.begin(), kept.end()));
    ASSERT_EQ(std::set<int32_t>(kept.begin(), kept.end()).size(), kept.size());
    for (const int32_t token : kept) ++counts[token];
  }
  const double share = static_cast<double>(kKeep) / kTokens;
  for (const int count : counts) {
    EXPECT_NEAR(count, kRounds * share, 5 * std::sqrt(kRounds * share * (1 - share)));
  }
  EXPECT_EQ(DistinctTokens({5, 6}, {}, 9, 9).size(), 9u);
  EXPECT_TRUE(DistinctTokens({5, 6}, {}, 9, 0).empty());
}

DrawSettings Settings() {
  DrawSettings settings;
  settings.seed = 42;
  settings.steps = 10;
  settings.layers = 3;
  settings.token_rate = {0.5};
  settings.identity_grids = {{2, 3}, {4, 6}};
  return settings;
}

CharacterName Character(int number, uint8_t first) {
  CharacterName character{number, {}};
  character.key[0] = first;
  return character;
}

TEST(PhiloxDraws, AreTheseNumbersOnEveryMachine) {
  PhiloxDraws draws(Settings());
  const FrameName frame{.panel = 3, .id = "p-1", .seed = 7};
  const std::vector<float> noise = *draws.Noise(frame, {1, 1, 4});
  const std::vector<int32_t> tokens = *draws.Tokens(Character(0, 1), 2, {4, 6}, 1);
  EXPECT_THAT(noise, ElementsAre(0.49704358f, -0.249404907f, -1.37496388f, 1.64947379f));
  EXPECT_THAT(tokens, ElementsAre(0, 1, 2, 3, 5, 6, 10, 11, 12, 13, 16, 21));
  EXPECT_THAT(GatesOf({}, 4, 3).open, ElementsAre(0, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1));
}

TEST(PhiloxDraws, DependOnNamesAndNotOnPositions) {
  PhiloxDraws draws(Settings());
  const LatentShape shape{4, 3, 5};
  EXPECT_EQ(*draws.Noise({.panel = 3, .id = "p-1", .seed = 7}, shape),
            *draws.Noise({.panel = 9, .id = "p-1", .seed = 7}, shape));
  EXPECT_NE(*draws.Noise({.panel = 3, .id = "p-1", .seed = 7}, shape),
            *draws.Noise({.panel = 3, .id = "p-2", .seed = 7}, shape));
  EXPECT_NE(*draws.Noise({.id = "p-1", .seed = 7}, shape), *draws.Noise({.id = "p-1", .seed = 8}, shape));
  EXPECT_NE(*draws.Noise({.id = "p-1", .seed = 7}, shape), *draws.StepNoise({.id = "p-1", .seed = 7}, 0, shape));
  EXPECT_NE(*draws.StepNoise({.id = "p-1"}, 1, shape), *draws.StepNoise({.id = "p-1"}, 0, shape));
  const Grid grid{4, 6};
  const auto tokens = *draws.Tokens(Character(0, 1), 2, grid, 1);
  EXPECT_EQ(tokens, *draws.Tokens(Character(5, 1), 2, grid, 1)) << "the character's number is only a position";
  EXPECT_NE(tokens, *draws.Tokens(Character(0, 2), 2, grid, 1));
  EXPECT_NE(tokens, *draws.Tokens(Character(0, 1), 3, grid, 1));
  EXPECT_NE(tokens, *draws.Tokens(Character(0, 1), 2, grid, 0));
}

TEST(PhiloxDraws, SharedNoiseIsTheSameForEveryCharactersFrameIAndForAllReadFrames) {
  DrawSettings settings = Settings();
  settings.noise = NoiseKind::kShared;
  PhiloxDraws draws(settings);
  const LatentShape shape{4, 3, 5};
  const auto identity = [&](int number, uint8_t key, int i) {
    return *draws.Noise({.panel = i, .id = "x", .seed = 7, .identity_frame = i, .character = Character(number, key)},
                        shape);
  };
  EXPECT_EQ(identity(0, 1, 1), identity(1, 2, 1));
  EXPECT_NE(identity(0, 1, 1), identity(0, 1, 0));
  EXPECT_EQ(*draws.Noise({.id = "a", .seed = 7}, shape), *draws.Noise({.id = "b", .seed = 7}, shape));
  EXPECT_EQ(*draws.Noise({.id = "a", .seed = 7}, shape), identity(0, 1, 0));
}

TEST(PhiloxDraws, KeepExactlyTheRoundedShareOfEachGrid) {
  DrawSettings settings = Settings();
  settings.token_rate = {0.5, 0.25};
  PhiloxDraws draws(settings);
  EXPECT_EQ(draws.Tokens(Character(0, 1), 0, {2, 3}, 0)->size(), 3u);
  EXPECT_EQ(draws.Tokens(Character(0, 1), 0, {4, 6}, 0)->size(), 6u);
  settings.token_rate = {0.5, 0.25, 0.1};
  EXPECT_FALSE(PhiloxDraws(settings).Tokens(Character(0, 1), 0, {2, 3}, 0).ok());
}

// Share of open gates in steps [from, to).
double OpenShare(const GateTable& gates, int64_t from, int64_t to) {
  int64_t open = 0;
  for (int64_t step = from; step < to; ++step) {
    for (int64_t layer = 0; layer < gates.layers; ++layer) open += gates.Open(step, layer);
  }
  return static_cast<double>(open) / static_cast<double>((to - from) * gates.layers);
}

TEST(Gates, OpenAsOftenAsTheThresholdsSayAndNeverInStepZero) {
  const GateTable gates = GatesOf({.before = 0.3, .after = 0.1, .switch_step = 200}, 600, 36);
  EXPECT_EQ(OpenShare(gates, 0, 1), 0);
  EXPECT_NEAR(OpenShare(gates, 1, 200), 0.7, 0.03);
  EXPECT_NEAR(OpenShare(gates, 200, 600), 0.9, 0.02);
  EXPECT_EQ(OpenShare(GatesOf({.before = 0, .after = 0}, 20, 36), 1, 20), 1);
  EXPECT_EQ(OpenShare(GatesOf({.before = 1, .after = 1}, 20, 36), 1, 20), 0);
}

TEST(Gates, ASwitchAtAFractionFallsOnTheStepThatAPersonExpects) {
  // 0.4 of 50 steps is step 20, the published switch; 0.1 of 30 is step 3, though 0.1 * 30 is a little more in binary.
  for (const auto& [fraction, steps, step] :
       {std::tuple(0.4, 50, 20), std::tuple(0.1, 30, 3), std::tuple(0.4, 20, 8)}) {
    const GateTable by_fraction = GatesOf({.before = 0.9, .after = 0.1, .switch_fraction = fraction}, steps, 36);
    const GateTable by_step = GatesOf({.before = 0.9, .after = 0.1, .switch_step = step}, steps, 36);
    EXPECT_EQ(by_fraction.open, by_step.open) << fraction << " of " << steps;
  }
}

}  // namespace
}  // namespace storyfarm::identity
