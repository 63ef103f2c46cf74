#include "coordinator/rpc/leader_watch.h"

#include "gtest/gtest.h"

namespace storyfarm::coordinator {
namespace {

Leadership Led(uint64_t head, uint64_t beats, const std::string& leader = "other") { return {3, head, beats, leader}; }

TEST(LeaderWatch, ALeaderThatGivesSignsIsNeverDeposed) {
  LeaderWatch watch("me");
  for (int64_t now = 0; now < 60'000; now += kWatchMs) {
    EXPECT_FALSE(watch.MayTakeOver(Led(5, static_cast<uint64_t>(now / 500)), now, now + 1));
  }
  for (int64_t now = 60'000; now < 120'000; now += kWatchMs) {
    EXPECT_FALSE(watch.MayTakeOver(Led(static_cast<uint64_t>(now / 2'000), 7), now, now + 1))
        << "appends are signs, too";
  }
}

TEST(LeaderWatch, ASilentOneIsFollowedAfterItsLeaseAndBeforeFiveSeconds) {
  LeaderWatch watch("me");
  EXPECT_FALSE(watch.MayTakeOver(Led(5, 1), 0, 1));
  int64_t now = kWatchMs;
  while (!watch.MayTakeOver(Led(5, 1), now, now + 1)) now += kWatchMs;
  EXPECT_GT(now, kLeaderLeaseMs);
  EXPECT_LT(now, 4'000);
}

TEST(LeaderWatch, ABatchSentAgainIsASignOnlyOfWhenItMayFirstHaveArrived) {
  AppendSign sign;
  EXPECT_EQ(sign.Answered(100), 100);
  sign.NoAnswer(100);
  sign.NoAnswer(700);
  EXPECT_EQ(sign.Answered(1'500), 100);
}

TEST(LeaderWatch, NobodyAndAProcessBeforeThisOneAreFollowedAtOnce) {
  EXPECT_TRUE(LeaderWatch("me").MayTakeOver(Led(0, 0, ""), 0, 1));
  EXPECT_TRUE(LeaderWatch("me").MayTakeOver(Led(5, 1, "me"), 0, 1));
}

TEST(LeaderWatch, AStoreThatStoodStillSilencedTheLeaderAndDeposesNobody) {
  LeaderWatch watch("me");
  EXPECT_FALSE(watch.MayTakeOver(Led(5, 1), 0, 1));
  EXPECT_FALSE(watch.MayTakeOver(Led(5, 1), 250, 9'000)) << "the answer took long: so did the leader's signs";
  EXPECT_FALSE(watch.MayTakeOver(Led(5, 1), 9'100, 9'101));
  watch.NoAnswer();
  EXPECT_FALSE(watch.MayTakeOver(Led(5, 1), 30'000, 30'001)) << "it has to be watched anew";
  EXPECT_TRUE(watch.MayTakeOver(Led(5, 1), 33'100, 33'101));
}

}  // namespace
}  // namespace storyfarm::coordinator
