#include "pipeline/base/thread_role.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#ifndef __APPLE__
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/support/temp_folder.h"

namespace storyfarm::base {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ProcessorList, IsReadAsTheKernelWritesIt) {
  EXPECT_THAT(ParseProcessorList("0-3,8,10-11\n"), ElementsAre(0, 1, 2, 3, 8, 10, 11));
  EXPECT_THAT(ParseProcessorList("5"), ElementsAre(5));
  for (const char* wrong : {"", "a-b", "3-1", "-1", "0-99999999", "1-2-3"}) {
    EXPECT_THAT(ParseProcessorList(wrong), IsEmpty()) << wrong;
  }
}

class ProcessorsTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = folder_.path() + "/sys/devices/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }
  testing_support::TempFolder folder_;
};

TEST_F(ProcessorsTest, IntelListsThoseForSpeed) {
  Write("cpu_core/cpus", "0-15");
  Write("cpu_atom/cpus", "16-23");
  EXPECT_EQ(PerformanceProcessors(folder_.path()).size(), 16U);
}

TEST_F(ProcessorsTest, ArmTellsTheCapacityOfEach) {
  for (int i = 0; i < 4; ++i) Write("system/cpu/cpu" + std::to_string(i) + "/cpu_capacity", "446");
  for (int i = 4; i < 6; ++i) Write("system/cpu/cpu" + std::to_string(i) + "/cpu_capacity", "1024");
  Write("system/cpu/cpufreq/policy0/cpuinfo_max_freq", "1");  // no processor
  EXPECT_THAT(PerformanceProcessors(folder_.path()), ElementsAre(4, 5));
}

TEST_F(ProcessorsTest, ElsewhereTheFrequencyTellsThemApartButNotFavouredCoresOfOneKind) {
  const auto frequency = [this](int number, const char* khz) {
    Write("system/cpu/cpu" + std::to_string(number) + "/cpufreq/cpuinfo_max_freq", khz);
  };
  frequency(0, "5500000");
  frequency(1, "5200000");
  EXPECT_THAT(PerformanceProcessors(folder_.path()), IsEmpty()) << "they are alike";
  frequency(2, "3800000");
  EXPECT_THAT(PerformanceProcessors(folder_.path()), ElementsAre(0, 1));
}

TEST_F(ProcessorsTest, AMachineThatTellsNothingHasNone) { EXPECT_THAT(PerformanceProcessors(folder_.path()), IsEmpty()); }

#ifndef __APPLE__
int NiceOfThisThread() { return getpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid))); }

TEST(ThreadRole, OnLinuxIsTheThreadsOwnNiceValueAndThatOfThreadsThatItStarts) {
  const int before = NiceOfThisThread();
  int transfer = -1, started = -1, feeds = -1;
  std::thread([&] {
    TakeRole(ThreadRole::kTransfer);
    transfer = NiceOfThisThread();
    std::thread([&] { started = NiceOfThisThread(); }).join();
    TakeRole(ThreadRole::kFeedsDevice);
    feeds = NiceOfThisThread();
  }).join();
  EXPECT_EQ(transfer, std::max(before, 5));
  EXPECT_EQ(started, transfer);
  EXPECT_EQ(feeds, transfer) << "a thread only becomes nicer";
  EXPECT_EQ(NiceOfThisThread(), before) << "other threads keep theirs";
}

TEST(ThreadRole, KeepingToPerformanceProcessorsLeavesTheThreadSomeToRunOn) {
  std::thread([] {
    cpu_set_t before, after;
    ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
    KeepToPerformanceProcessors(0);
    ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
    EXPECT_GT(CPU_COUNT(&after), 0);
    if (PerformanceProcessors("").empty()) {
      EXPECT_TRUE(CPU_EQUAL(&before, &after));
    }
  }).join();
}
#endif

}  // namespace
}  // namespace storyfarm::base
