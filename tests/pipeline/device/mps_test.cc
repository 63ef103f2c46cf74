// The MPS backend on a machine without Metal: torch's hooks are played by the test, with the rules of the real allocator
// (aten/src/ATen/mps/MPSAllocator.mm, version 2.11). A program of its own, since torch looks the hooks up once.
#include <ATen/ATen.h>
#include <ATen/detail/MPSHooksInterface.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/device/backends.h"
#include "pipeline/device/device.h"
#include "pipeline/device/host.h"
#include "pipeline/device/transfer.h"

namespace storyfarm::device {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;
using ::testing::Not;

constexpr size_t kRecommended = 11'453'251'584;  // of a 16 GB M1 Pro

struct Metal {
  bool there = true;
  double high = 1.7, low = 1.4;
  size_t allocated = 0, reserved = 0;
  int emptied = 0, waited = 0;
  void SetLow(double ratio) {
    TORCH_CHECK(ratio >= 0 && ratio <= high, "invalid low watermark ratio ", ratio);
    low = ratio;
  }
  void SetHigh(double ratio) {
    TORCH_CHECK(ratio >= 0 && ratio <= 2.0 && ratio >= low, "invalid high watermark ratio ", ratio);
    high = ratio;
  }
};
Metal metal;  // the registry makes the hooks, once, where the test can't reach

struct FakeHooks final : at::MPSHooksInterface {
  explicit FakeHooks(at::MPSHooksArgs) {}
  bool hasMPS() const override { return metal.there; }
  size_t getRecommendedMaxMemory() const override { return kRecommended; }
  size_t getCurrentAllocatedMemory() const override { return metal.allocated; }
  size_t getDriverAllocatedMemory() const override { return metal.reserved; }
  void setMemoryFraction(double ratio) const override { metal.SetHigh(ratio); }
  void emptyCache() const override { ++metal.emptied; }
  void deviceSynchronize() const override { ++metal.waited; }
};

}  // namespace
}  // namespace storyfarm::device

namespace at {
using MPSHooks = storyfarm::device::FakeHooks;  // the name under which torch looks for them
REGISTER_MPS_HOOKS(MPSHooks);
}  // namespace at

namespace storyfarm::device {
namespace {

class MpsTest : public ::testing::Test {
 protected:
  MpsTest() { metal = Metal(); }
  static std::unique_ptr<Device> Open(uint64_t limit_bytes = 0) {
    auto opened = OpenMpsWith(3, limit_bytes, [](double ratio) { metal.SetLow(ratio); });
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }
};

TEST_F(MpsTest, WithoutAnAppleGpuItIsNotFoundWithASentence) {
  metal.there = false;
  const absl::Status absent = Device::Open("mps", 1).status();
  EXPECT_EQ(absent.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(absent.message()), AllOf(HasSubstr("no Apple GPU"), HasSubstr("--device cpu")));
  for (const Report& report : DescribeAll(false, 1)) EXPECT_NE(report.backend, Backend::kMps);
}

TEST_F(MpsTest, ReportsAMacWhoseMemoryIsShared) {
  metal.reserved = 2'000'000'000;
  const Report report = Open()->Describe(false);
  EXPECT_EQ(report.backend, Backend::kMps);
  EXPECT_TRUE(report.unified);
  EXPECT_EQ(report.threads, 3);
  EXPECT_EQ(report.recommended_max_bytes, kRecommended);
  EXPECT_THAT(report.free_bytes, AllOf(Le(kRecommended - metal.reserved), Le(ReadHostMemory().total_bytes)));
  EXPECT_THAT(report.dtypes, Contains("fp16"));
  EXPECT_THAT(report.dtypes, Not(Contains("bf16"))) << "emulated on M1 and M2";
  EXPECT_EQ(report.host_to_device_bytes_per_s, 0u);
  EXPECT_FALSE(report.name.empty());
  EXPECT_FALSE(report.driver.empty());
}

TEST_F(MpsTest, NothingIsFreeWhereMoreIsHeldThanMetalRecommends) {
  metal.reserved = kRecommended + 1;
  EXPECT_EQ(Open()->MemoryNow().free_bytes, 0u);
}

TEST_F(MpsTest, ThePeakIsTheMostThatWasSeenSinceItWasReset) {
  const auto mps = Open();
  metal.allocated = 300, metal.reserved = 500;
  EXPECT_EQ(mps->MemoryNow().peak_bytes, 500u);
  metal.allocated = 100, metal.reserved = 200;
  const Memory memory = mps->MemoryNow();
  EXPECT_EQ(memory.allocated_bytes, 100u);
  EXPECT_EQ(memory.reserved_bytes, 200u);
  EXPECT_EQ(memory.peak_bytes, 500u);
  EXPECT_EQ(memory.total_bytes, ReadHostMemory().total_bytes);
  mps->ResetPeak();
  EXPECT_EQ(mps->MemoryNow().peak_bytes, 200u);
}

TEST_F(MpsTest, OpenedItIsCappedAtWhatMetalRecommends) {
  const auto mps = Open();
  EXPECT_DOUBLE_EQ(metal.high, 1.0);
  EXPECT_GT(metal.low, 0) << "0 is no limit";
  EXPECT_LT(metal.low, 0.5);
}

TEST_F(MpsTest, ALimitSetsBothWatermarksDownAndUpWithoutTheLowOneEverAboveTheHighOne) {
  Open(kRecommended / 10);
  EXPECT_NEAR(metal.high, 0.1, 1e-9);
  EXPECT_NEAR(metal.low, 0.025, 1e-9);
  Open(kRecommended / 2);
  EXPECT_NEAR(metal.high, 0.5, 1e-9);
  EXPECT_NEAR(metal.low, 0.125, 1e-9);
  Open(kRecommended * 3);
  EXPECT_EQ(metal.high, 1.0) << "more than Metal recommends is not to be had";
  Open(1);
  EXPECT_GT(metal.high, 0) << "0 would be no limit at all";
  EXPECT_GT(metal.low, 0);
}

TEST_F(MpsTest, EmptiesItsCacheAndWaitsForWhatWasLaunched) {
  const auto mps = Open();
  mps->EmptyCache();
  mps->Synchronize();
  EXPECT_EQ(metal.emptied, 1);
  EXPECT_EQ(metal.waited, 1);
  EXPECT_EQ(mps->torch_device(), c10::Device(at::kMPS, 0));
}

TEST_F(MpsTest, ATransferSlotTakesBytesOnTheHost) {
  const auto mps = Open();
  const auto slot = mps->NewTransferSlot();
  EXPECT_EQ(slot->Prepare(64).size(), 64u);
}

TEST_F(MpsTest, AMacListsItsGpuBeforeItsProcessor) {
  metal.low = 0.1;  // on Linux only the high one can be set through the hooks
  const std::vector<Report> reports = DescribeAll(false, 2);
  ASSERT_GE(reports.size(), 2u);
  EXPECT_EQ(reports[reports.size() - 2].backend, Backend::kMps);
  EXPECT_EQ(reports.back().backend, Backend::kCpu);
}

TEST_F(MpsTest, AGpuThatRefusesItsLimitIsLeftOutAndDoesNotHideTheProcessor) {
  metal.low = 1.4;  // and refuses a high one below it
  const std::vector<Report> reports = DescribeAll(false, 2);
  ASSERT_FALSE(reports.empty());
  EXPECT_EQ(reports.back().backend, Backend::kCpu);
  for (const Report& report : reports) EXPECT_NE(report.backend, Backend::kMps);
}

}  // namespace
}  // namespace storyfarm::device
