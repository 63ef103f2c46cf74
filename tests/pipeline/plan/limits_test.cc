#include "pipeline/plan/limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/plan/hours.h"
#include "pipeline/plan/plan.h"

namespace storyfarm::plan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Devices, AreNamedAsEnginesKnowThem) {
  EXPECT_THAT(*ParseDevices("cpu, cuda:0,mps"), ElementsAre("cpu", "cuda:0", "mps"));
  EXPECT_TRUE(ParseDevices("auto")->empty());
  for (const char* wrong : {"gpu", "cuda", "cuda:x", "cuda:01", "cpu,cpu", "cpu,,mps", "cuda:64"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseDevices(wrong).status())) << wrong;
  }
}

TEST(Hours, WhatCantBeReadIsRefused) {
  for (const char* text : {"", "8-17", "25:00-3:00", "8:00", "8:00-8:00", "mon-noday", "8:60-9:00", "mon tue",
                           "8:00-9:00-10:00", "sat,,sun", "9:00-10:00 mon", "weekend"}) {
    EXPECT_EQ(ParseHours(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(Limits, AChangeTouchesOnlyWhatItSays) {
  farm::v1::LimitNodeRequest change;
  change.set_memory_bytes(8'000'000'000);
  change.set_hours("mon-fri 20:00-08:00, sat");
  auto limits = ChangeLimits({}, change);
  ASSERT_TRUE(limits.ok()) << limits.status();
  change.Clear();
  change.set_mains_only(true);
  change.set_idle_minutes(10);
  change.set_devices("cuda:0, cuda:1");
  limits = ChangeLimits(*limits, change);
  ASSERT_TRUE(limits.ok()) << limits.status();
  EXPECT_EQ(LimitsInWords(*limits),
            "at most 8 GB of each device; cuda:0, cuda:1 alone; mon-fri 20:00-08:00, sat; on mains power; when nobody "
            "used it for 10 min");
  change.Clear();
  change.set_memory_bytes(0);
  change.set_hours("any");
  change.set_devices("auto");
  change.set_mains_only(false);
  limits = ChangeLimits(*limits, change);
  ASSERT_TRUE(limits.ok());
  EXPECT_EQ(LimitsInWords(*limits), "when nobody used it for 10 min");
  EXPECT_FALSE(IsUnlimited(*limits));
  change.Clear();
  change.set_none(true);
  EXPECT_TRUE(IsUnlimited(*ChangeLimits(*limits, change)));
  change.set_memory_bytes(1'250'000'000);
  EXPECT_EQ(LimitsInWords(*ChangeLimits(*limits, change)), "at most 1.25 GB of each device");
}

TEST(Limits, WhatCantBeMeantIsRefusedWithWhatWouldDo) {
  farm::v1::LimitNodeRequest change;
  change.set_memory_bytes(8);  // somebody thought of GB
  EXPECT_THAT(ChangeLimits({}, change).status().message(), HasSubstr("--memory-gb is in GB"));
  change.Clear();
  change.set_hours("in the evening");
  EXPECT_THAT(ChangeLimits({}, change).status().message(), HasSubstr("\"19:00-07:00\""));
  change.Clear();
  change.set_idle_minutes(100'000);
  EXPECT_THAT(ChangeLimits({}, change).status().message(), HasSubstr("0 to 1440"));
  change.Clear();
  change.set_devices("the card");
  EXPECT_THAT(ChangeLimits({}, change).status().message(), HasSubstr("\"cuda:0,cuda:1\""));
}

TEST(Limits, LendTheDevicesThatTheyName) {
  farm::v1::WorkerLimits limits;
  farm::v1::DeviceReport card;
  card.set_backend(farm::v1::CUDA);
  card.set_ordinal(1);
  EXPECT_TRUE(Lends(limits, card));
  limits.add_devices("cuda:0");
  EXPECT_FALSE(Lends(limits, card));
  limits.add_devices("cuda:1");
  EXPECT_TRUE(Lends(limits, card));
}

TEST(Limits, TheLeastMemoryIsWhatABudgetTakesWithItsReserve) {
  for (const auto backend : {farm::v1::CPU, farm::v1::MPS, farm::v1::CUDA}) {
    for (const uint64_t budget : std::initializer_list<uint64_t>{1'000'000, 700'000'000, 3'000'000'000, 30'000'000'000}) {
      farm::v1::DeviceReport device;
      device.set_backend(backend);
      device.set_total_bytes(LeastMemoryBytes(backend, budget));
      device.set_free_bytes(device.total_bytes());
      EXPECT_GE(BudgetBytes(device), budget);
      EXPECT_LT(BudgetBytes(device), budget + 10);
    }
  }
}

}  // namespace
}  // namespace storyfarm::plan
