// Real faults, with real processes. A suite is a fault, a test what is promised then; fault_matrix.py makes the table
// of deploy/docs/faults.md of them. Beside this file: leader_faults_test.cc.
//
//   faults_e2e_test [--rounds N]     rounds of random kills; a few by default
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <string>
#include <thread>

#include "pipeline/base/digest.h"
#include "tests/e2e/fault_rig.h"
#include "tests/support/cutting_proxy.h"
#include "tests/support/small_disk.h"

namespace storyfarm::e2e {
namespace {

using testing_support::CuttingProxy;
using testing_support::SmallDisk;

TEST(WhenAnyProcessIsKilledAtARandomMoment, EveryPageComesOutAsWithoutItAndNoAcceptedPanelIsRenderedAgain) {
  for (int round = 1; round <= Rounds(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    const int seed = 1000 * round;
    std::mt19937 random(static_cast<unsigned>(round));
    const Files expected = Reference(seed);
    Farm farm(NullEngines(8));
    farm.StartCoordinator();
    farm.StartWorker("one");
    farm.StartWorker("two");
    farm.AddTinyModel();
    const std::string job = farm.SubmitStory(kPanels, seed);
    for (int kill = 0; kill < 3; ++kill) {
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 400));
      const std::set<int> accepted = Accepted(farm.Status(job));
      const std::map<int, int> before = RendersByPanel(farm);
      const std::string worker = random() % 2 == 0 ? "one" : "two";
      const int victim = static_cast<int>(random() % 4);
      SCOPED_TRACE("victim " + std::to_string(victim));
      if (victim == 0) {
        farm.Kill("farm");
        farm.StartCoordinator();
      } else if (victim == 1) {
        farm.KillPrivateRedis();
      } else if (victim == 2) {
        farm.Kill(worker);
        farm.StartWorker(worker);
      } else {
        farm.KillEngines(worker);
      }
      if (kill == 2) farm.WaitForEnd(job);
      const std::map<int, int> after = RendersByPanel(farm);
      for (const int panel : accepted) EXPECT_EQ(after.at(panel), before.at(panel)) << "panel " << panel;
    }
    ExpectSame(farm.Fetch(job), expected);
    ExpectNoWaste(farm, job, false);
  }
}

TEST(WhenTheCoordinatorIsKilled, WorkersGoOnAndNothingIsRenderedTwice) {
  Farm farm(NullEngines(20));
  farm.StartCoordinator();
  farm.StartWorker("one");
  farm.StartWorker("two");
  farm.AddTinyModel();
  const std::string job = farm.SubmitStory(kPanels, 7);
  WaitForFrames(farm, job, 6);
  farm.Kill("farm");
  farm.StartCoordinator();
  farm.WaitForEnd(job);
  ExpectSame(farm.Fetch(job), Reference(7));
  ExpectNoWaste(farm, job, true);
}

TEST(WhenRedisIsKilled, ItIsStartedAgainAndNothingIsRenderedTwice) {
  Farm farm(NullEngines(20));
  farm.StartCoordinator();
  farm.StartWorker("one");
  farm.StartWorker("two");
  farm.AddTinyModel();
  const std::string job = farm.SubmitStory(kPanels, 7);
  WaitForFrames(farm, job, 6);
  farm.KillPrivateRedis();
  farm.WaitForEnd(job);
  EXPECT_TRUE(farm.Runs("farm"));
  ExpectSame(farm.Fetch(job), Reference(7));
  ExpectNoWaste(farm, job, true);
}

TEST(WhenAWorkerIsFrozenPastItsLease, ItsPanelsGoToOthersAndWhatItFinishesLateChangesNothing) {
  Farm farm(NullEngines(40));
  farm.StartCoordinator();
  farm.StartWorker("freezes");
  farm.AddTinyModel();
  const std::string job = farm.SubmitStory(kPanels, 8);
  WaitForFrames(farm, job, 4);
  farm.Signal("freezes", SIGSTOP);
  farm.StartWorker("stays");
  farm.WaitForEnd(job);
  const Files before = farm.Fetch(job);
  ExpectSame(before, Reference(8));
  farm.Signal("freezes", SIGCONT);
  // It delivers what it had, hears that nobody wants it, and works on.
  farm.Stop("stays");
  const std::string next = farm.SubmitStory(kPanels, 9);
  farm.WaitForEnd(next);
  ExpectSame(farm.Fetch(next), Reference(9));
  std::filesystem::remove_all(farm.File("fetched-" + job));
  ExpectSame(farm.Fetch(job), before);
}

TEST(WhenTheDiskOfTheCoordinatorIsFull, NothingAcceptedIsLostAndItGoesOnOnceThereIsRoom) {
  FarmOptions options = NullEngines(20);
  options.coordinator_arguments = {"--low-disk", "0"};  // it would be low from the start
  Farm farm(options);
  std::filesystem::create_directory(farm.File("farm"));
  const auto disk = SmallDisk::Mount(farm.File("farm"), uint64_t{300} << 20);
  if (disk == nullptr) GTEST_SKIP() << "this machine does not let the test mount a small disk (it takes root)";
  farm.StartCoordinator();
  farm.StartWorker("one");
  farm.AddTinyModel();
  const std::string job = farm.SubmitStory(kPanels, 10);
  WaitForFrames(farm, job, 4);
  disk->Fill();
  // Long enough for every worker's upload to be refused and for Redis to end.
  farm.WaitUntil("the coordinator to complain", [&farm] {
    return farm.Log("farm").find("the store does not take records") != std::string::npos ||
           farm.Log("one").find("full") != std::string::npos;
  });
  EXPECT_TRUE(farm.Runs("farm"));
  disk->Empty();
  farm.WaitForEnd(job);
  ExpectSame(farm.Fetch(job), Reference(10));
  ExpectNoWaste(farm, job, false);
  farm.Kill("farm");  // before its disk goes
  farm.StartCoordinator();
  EXPECT_EQ(farm.Status(job)["state"], "done");
  farm.Stop("farm");
}

TEST(WhenTheDiskOfAWorkerIsFull, OthersDrawItsPanelsAndTheStoryGoesOn) {
  Farm farm(NullEngines(20));
  std::filesystem::create_directory(farm.File("full"));
  const auto disk = SmallDisk::Mount(farm.File("full"), uint64_t{300} << 20);
  if (disk == nullptr) GTEST_SKIP() << "this machine does not let the test mount a small disk (it takes root)";
  farm.StartCoordinator();
  farm.StartWorker("full");
  farm.AddTinyModel();
  const std::string job = farm.SubmitStory(kPanels, 11);
  WaitForFrames(farm, job, 4);
  disk->Fill();
  farm.StartWorker("stays");
  farm.WaitForEnd(job);
  ExpectSame(farm.Fetch(job), Reference(11));
  ExpectNoWaste(farm, job, false);
  farm.Stop("full");  // before its disk goes
}

TEST(WhenABlobIsHalfWritten, ItIsWrittenAnewAndNobodySeesTheHalf) {
  const Files expected = Reference(12, 100'000);
  Farm farm(NullEngines(5, 100'000));
  farm.StartCoordinator();
  farm.AddTinyModel();
  farm.StartWorker("one");
  farm.WaitUntil("the worker's name", [&farm] { return std::filesystem::exists(farm.File("one/node-id")); });
  std::string node;
  std::ifstream(farm.File("one/node-id")) >> node;
  ASSERT_EQ(node.size(), 32u);
  // What uploads leave that broke off: the first half of a picture, and one that the disk garbled.
  int halves = 0;
  for (const auto& [name, bytes] : expected) {
    if (!name.starts_with("panels/")) continue;
    std::string half = bytes.substr(0, bytes.size() / 2);
    if (halves++ % 2 == 1) half[half.size() / 2] ^= 1;
    const std::string partial = farm.File("farm/blobs/partial/" + base::Digest::Of(bytes).Hex() + "." + node);
    std::ofstream(partial, std::ios::binary) << half;
  }
  ASSERT_GT(halves, 2);
  const std::string job = farm.SubmitStory(kPanels, 12);
  farm.WaitForEnd(job);
  ExpectSame(farm.Fetch(job), expected);
  ExpectNoWaste(farm, job, true);
}

TEST(WhenAnUploadIsCutMidway, ItGoesOnWhereItStoodAndNothingIsRenderedTwice) {
  constexpr int kBytes = 1'500'000;
  const Files expected = Reference(13, kBytes);
  Farm farm(NullEngines(5, kBytes));
  farm.StartCoordinator();
  farm.AddTinyModel();
  CuttingProxy proxy(farm.File("proxy.sock"), farm.File("farm/coordinator.sock"));
  ASSERT_TRUE(proxy.listening());
  proxy.CutAfter(kBytes / 2, 5);
  farm.StartWorker("one", {}, "unix:" + farm.File("proxy.sock"));
  const std::string job = farm.SubmitStory(kPanels, 13);
  farm.WaitForEnd(job);
  EXPECT_EQ(proxy.cuts(), 5);
  ExpectSame(farm.Fetch(job), expected);
  ExpectNoWaste(farm, job, true);
}

TEST(WhenAStoryIsSubmittedTwice, ItIsOneJobAlsoAfterTheCoordinatorWasKilled) {
  Farm farm(NullEngines(5));
  farm.StartCoordinator();
  farm.AddTinyModel();
  const std::string job = farm.SubmitStory(kPanels, 14, "night-1");
  EXPECT_EQ(farm.SubmitStory(kPanels, 14, "night-1"), job);
  farm.Kill("farm");
  farm.StartCoordinator();
  EXPECT_EQ(farm.SubmitStory(kPanels, 14, "night-1"), job);
  farm.StartWorker("one");
  farm.WaitForEnd(job);
  EXPECT_EQ(farm.SubmitStory(kPanels, 14, "night-1"), job);
  ExpectSame(farm.Fetch(job), Reference(14));
  ExpectNoWaste(farm, job, true);
}

TEST(WhenAWorkersClockIsAnHourOff, NothingChanges) {
  const std::string shim = std::string(STORYFARM_BIN_DIR) + "/wrong_clock.so";
  if (!std::filesystem::exists(shim)) GTEST_SKIP() << "a program's clock can only be set wrong on Linux";
  Farm farm(NullEngines(10));
  farm.StartCoordinator();
  farm.AddTinyModel();
  const Variables ahead = {
      {"LD_PRELOAD", shim}, {"WRONG_CLOCK_SECONDS", "3600"}, {"ASAN_OPTIONS", "verify_asan_link_order=0"}};
  Variables behind = ahead;
  behind[1].second = "-3600";
  farm.StartWorker("ahead", ahead);
  farm.StartWorker("behind", behind);
  const std::string job = farm.SubmitStory(kPanels, 15);
  farm.WaitForEnd(job);
  EXPECT_NE(farm.Log("ahead").substr(0, 13), farm.Log("behind").substr(0, 13)) << "their clocks were not set wrong";
  ExpectSame(farm.Fetch(job), Reference(15));
  ExpectNoWaste(farm, job, true);
  EXPECT_EQ(farm.Log("farm").find("task returned"), std::string::npos) << farm.Log("farm");
}

TEST(WhenTwoWorkersHaveOneNodeId, TheSecondIsRefusedAndToldWhatToDo) {
  Farm farm(NullEngines(20));
  farm.StartCoordinator();
  farm.AddTinyModel();
  farm.StartWorker("original");
  farm.WaitUntil("the first worker",
                 [&farm] { return farm.MustStoryctl({"nodes"}).find("original") != std::string::npos; });
  const std::string job = farm.SubmitStory(kPanels, 16);
  WaitForFrames(farm, job, 4);
  std::filesystem::create_directory(farm.File("copy"));
  std::filesystem::permissions(farm.File("copy"), std::filesystem::perms::owner_all);
  for (const char* file : {"node-id", "version"}) {
    std::filesystem::copy(farm.File("original/") + file, farm.File("copy/") + file);
  }
  farm.StartWorker("copy");
  farm.WaitUntil("the refusal",
                 [&farm] { return farm.Log("copy").find("delete the file node-id") != std::string::npos; });
  farm.WaitForEnd(job);
  ExpectSame(farm.Fetch(job), Reference(16));
  ExpectNoWaste(farm, job, true);
  // With an id of its own it works.
  farm.Stop("copy");
  std::filesystem::remove(farm.File("copy/node-id"));
  farm.StartWorker("copy");
  farm.WaitUntil("the second worker",
                 [&farm] { return farm.MustStoryctl({"nodes"}).find("copy") != std::string::npos; });
}

}  // namespace
}  // namespace storyfarm::e2e
