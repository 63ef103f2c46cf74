#include "worker/core/silence.h"

#include <gtest/gtest.h>

namespace storyfarm::worker {
namespace {

RunKind Kind(int64_t pixels) {
  RunKind kind;
  kind.model_digest = "m";
  kind.pixels = pixels;
  return kind;
}

TEST(Silence, WaitsLongForAModelThatItHasNeverSeen) {
  SilenceLimits silence{Limits()};
  EXPECT_EQ(silence.LimitMs(Kind(100), Phase::kStepping), Limits().unknown_silence_ms);
}

TEST(Silence, LearnsEachPhaseForItself) {
  SilenceLimits silence{Limits()};
  silence.Observe(Kind(100), Phase::kStepping, 20'000);
  EXPECT_EQ(silence.LimitMs(Kind(100), Phase::kStepping), 20'000 * Limits().silence_factor);
  EXPECT_EQ(silence.LimitMs(Kind(100), Phase::kFinishing), Limits().unknown_silence_ms);
}

TEST(Silence, GrowsWithThePicturesAndNeverShrinksWithThem) {
  SilenceLimits silence{Limits()};
  silence.Observe(Kind(100), Phase::kStepping, 20'000);
  EXPECT_EQ(silence.LimitMs(Kind(400), Phase::kStepping), 4 * 20'000 * Limits().silence_factor);
  EXPECT_EQ(silence.LimitMs(Kind(10), Phase::kStepping), 20'000 * Limits().silence_factor);
}

TEST(Silence, KeepsTheLongestAndAFloor) {
  SilenceLimits silence{Limits()};
  silence.Observe(Kind(100), Phase::kLoading, 5);
  EXPECT_EQ(silence.LimitMs(Kind(100), Phase::kLoading), Limits().least_silence_ms);
  silence.Observe(Kind(100), Phase::kLoading, 50'000);
  silence.Observe(Kind(100), Phase::kLoading, 10);
  EXPECT_EQ(silence.LimitMs(Kind(100), Phase::kLoading), 50'000 * Limits().silence_factor);
}

}  // namespace
}  // namespace storyfarm::worker
