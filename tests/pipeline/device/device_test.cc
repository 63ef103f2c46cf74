#include "pipeline/device/device.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "pipeline/device/host.h"
#include "pipeline/device/landing.h"
#include "pipeline/device/transfer.h"

namespace storyfarm::device {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

TEST(Host, ReadsControlGroupLimits) {
  EXPECT_EQ(ParseCgroupLimit("max\n"), 0u);
  EXPECT_EQ(ParseCgroupLimit("8589934592\n"), 8589934592u);
  EXPECT_EQ(ParseCgroupLimit("9223372036854771712\n"), 0u) << "cgroup v1 writes none as a huge number";
  EXPECT_EQ(ParseCgroupLimit(""), 0u);
  EXPECT_EQ(ParseCgroupCpus("max 100000\n"), 0);
  EXPECT_EQ(ParseCgroupCpus("150000 100000\n"), 2) << "one and a half processors run two threads";
  EXPECT_EQ(ParseCgroupCpus("50000 100000\n"), 1);
  EXPECT_EQ(ParseCgroupCpus(""), 0);
}

TEST(Host, ReadsHowHardLinuxPressesForMemory) {
  const auto text = [](const std::string& some, const std::string& full) {
    return "some avg10=" + some + " avg60=0.10 avg300=0.02 total=12\nfull avg10=" + full +
           " avg60=0.00 avg300=0.00 total=5\n";
  };
  EXPECT_EQ(ParsePressure(text("0.00", "0.00")), Pressure::kNormal);
  EXPECT_EQ(ParsePressure(text("9.99", "9.99")), Pressure::kNormal);
  EXPECT_EQ(ParsePressure(text("23.50", "3.10")), Pressure::kWarning);
  EXPECT_EQ(ParsePressure(text("60.00", "31.00")), Pressure::kCritical);
  EXPECT_EQ(ParsePressure(""), Pressure::kUnknown) << "a kernel without it";
}

TEST(Host, ReadsTheNvidiaDriversVersion) {
  EXPECT_EQ(ParseDriverVersion("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC\n"
                               "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"),
            "535.104.05");
  EXPECT_EQ(ParseDriverVersion("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n"),
            "570.86.15");
  EXPECT_EQ(ParseDriverVersion(""), "");
}

TEST(Device, TheCpuReportsMemoryThreadsAndAMeasuredSpeed) {
  const auto cpu = Device::Open("cpu", 1);
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  const Report report = (*cpu)->Describe(true);
  EXPECT_EQ(report.backend, Backend::kCpu);
  EXPECT_FALSE(report.name.empty());
  EXPECT_GT(report.total_bytes, uint64_t{100} << 20);
  EXPECT_GT(report.free_bytes, 0u);
  EXPECT_LE(report.free_bytes, report.total_bytes);
  EXPECT_TRUE(report.unified);
  EXPECT_EQ(report.threads, 1);
  EXPECT_THAT(report.dtypes, Contains("fp32"));
  EXPECT_GT(report.speed_tflops, 1e-4);
  EXPECT_LT(report.speed_tflops, 100);
  EXPECT_EQ((*cpu)->Describe(false).speed_tflops, 0);
}

TEST(Device, TheCpusMemoryFollowsAllocations) {
  const auto cpu = Device::Open("cpu", 1);
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  constexpr int64_t kBytes = 128 << 20;
  const Memory before = (*cpu)->MemoryNow();
  at::Tensor held = at::ones({kBytes}, at::kByte);
  const Memory during = (*cpu)->MemoryNow();
  EXPECT_GE(during.reserved_bytes, before.reserved_bytes + kBytes / 2);
  EXPECT_GE(during.peak_bytes, during.reserved_bytes);
  held = at::Tensor();
  const Memory after = (*cpu)->MemoryNow();
  EXPECT_GE(after.peak_bytes, during.peak_bytes - (int64_t{8} << 20)) << "the peak outlives what made it";
}

TEST(Landings, OnTheCpuWhatIsComputedIsThereAtOnce) {
  const auto cpu = Device::Open("cpu", 1);
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  const at::Tensor bytes = at::arange(5, at::kByte);
  const std::shared_ptr<Landing> landing = (*cpu)->NewLandings()->Begin(bytes);
  const std::span<const std::byte> landed = landing->Wait();
  ASSERT_EQ(landed.size(), 5u);
  EXPECT_EQ(landed[4], std::byte{4});
}

TEST(TransferSlot, OnTheCpuTheBytesAreComputedWithWhereTheyWereRead) {
  const auto cpu = Device::Open("cpu", 1);
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  const std::unique_ptr<TransferSlot> slot = (*cpu)->NewTransferSlot();
  for (const uint64_t size : {100u, 40u, 3000u, 0u}) {
    const std::span<std::byte> bytes = slot->Prepare(size);
    ASSERT_EQ(bytes.size(), size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes.data()) % 64, 0u);
    std::fill(bytes.begin(), bytes.end(), std::byte{7});
    slot->Send(size);
    const at::Tensor received = slot->Receive();
    ASSERT_EQ(received.numel(), static_cast<int64_t>(size));
    EXPECT_EQ(received.scalar_type(), at::kByte);
    EXPECT_TRUE(received.eq(7).all().item<bool>());
    if (size > 0) {
      EXPECT_EQ(received.const_data_ptr(), bytes.data());
    }
    slot->Release();
  }
}

TEST(TransferSlot, WithoutAStreamOfCopiesReceivingCopies) {
  const std::unique_ptr<TransferSlot> slot = NewCopyingSlot(at::kCPU);
  std::ranges::fill(slot->Prepare(64), std::byte{3});
  slot->Send(64);
  EXPECT_TRUE(slot->Receive().eq(3).all().item<bool>());
  slot->Release();
}

TEST(Device, NamesThatAreNoDeviceAreRefusedAndAbsentOnesNotFound) {
  for (const char* name : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0"}) {
    EXPECT_EQ(Device::Open(name, 1).status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
  const auto far = Device::Open("cuda:99", 1);
  EXPECT_EQ(far.status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(far.status().message().empty());
}

TEST(Device, EveryMachineHasACpuAndItComesLast) {
  const std::vector<Report> reports = DescribeAll(false, 2);
  ASSERT_FALSE(reports.empty());
  EXPECT_EQ(reports.back().backend, Backend::kCpu);
  EXPECT_EQ(reports.back().threads, 2);
}

TEST(Device, AtLeastOneThreadIsAvailable) { EXPECT_GE(AvailableThreads(), 1); }

}  // namespace
}  // namespace storyfarm::device
