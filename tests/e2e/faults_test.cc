// Real faults, with real processes. A suite is a fault, a test what is promised then; fault_matrix.py makes the table
// of deploy/docs/faults.md of them. Engines render nothing here, so that each picture is known and counted.
//
//   faults_e2e_test [--rounds N]     rounds of random kills; a few by default
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>

#include "pipeline/base/digest.h"
#include "tests/e2e/farm.h"
#include "tests/support/cutting_proxy.h"
#include "tests/support/small_disk.h"

namespace storyfarm::e2e {
namespace {

using testing_support::CuttingProxy;
using testing_support::SmallDisk;

constexpr int kPanels = 24;
int g_rounds = 3;

// One farm that nothing befalls, for all tests: what the pages must be.
class Reference : public testing::Environment {
 public:
  static Files Render(int seed, int image_bytes = 0) {
    std::unique_ptr<Farm>& farm = farms_[image_bytes];
    if (farm == nullptr) {
      FarmOptions options;
      options.null_engine = true;
      options.image_bytes = image_bytes;
      farm = std::make_unique<Farm>(options);
      farm->StartCoordinator();
      farm->StartWorker("one");
      farm->AddTinyModel();
    }
    const std::string job = farm->SubmitStory(kPanels, seed);
    farm->WaitForEnd(job);
    return farm->Fetch(job);
  }
  void TearDown() override { farms_.clear(); }

 private:
  static std::map<int, std::unique_ptr<Farm>> farms_;
};
std::map<int, std::unique_ptr<Farm>> Reference::farms_;

FarmOptions NullEngines(int step_ms, int image_bytes = 0) {
  FarmOptions options;
  options.null_engine = true;
  options.step_ms = step_ms;
  options.image_bytes = image_bytes;
  return options;
}

// Panels whose result the farm has accepted.
std::set<int> Accepted(const nlohmann::json& status) {
  std::set<int> panels;
  if (!status.is_object()) return panels;
  for (const nlohmann::json& task : status["tasks"]) {
    const std::string name = task["task"];
    if (name.find("/frame/") != std::string::npos && task["state"] == "done") {
      panels.insert(std::stoi(name.substr(name.rfind('/') + 1)));
    }
  }
  return panels;
}

std::map<int, int> RendersByPanel(const Farm& farm) {
  std::map<int, int> renders;
  for (const auto& [line, times] : farm.Renders()) renders[std::stoi(line)] += times;
  return renders;
}

// No panel was rendered more often than it was handed out, and where nothing was lost no more than once.
void ExpectNoWaste(Farm& farm, const std::string& job, bool nothing_was_lost) {
  const nlohmann::json status = farm.Status(job);
  int identity_attempts = 0;
  std::map<int, int> attempts;
  for (const nlohmann::json& task : status["tasks"]) {
    const std::string name = task["task"];
    const int times = task["attempts"];
    if (name.find("/identity/") != std::string::npos) identity_attempts = std::max(identity_attempts, times);
    if (name.find("/frame/") != std::string::npos) attempts[std::stoi(name.substr(name.rfind('/') + 1))] = times;
  }
  for (const auto& [panel, times] : RendersByPanel(farm)) {
    EXPECT_LE(times, nothing_was_lost ? 1 : std::max(identity_attempts, attempts[panel])) << "panel " << panel;
  }
}

void WaitForFrames(Farm& farm, const std::string& job, int frames) {
  farm.WaitFor(job, "frames", [frames](const nlohmann::json& status) { return status["frames_done"] >= frames; });
}

TEST(WhenAnyProcessIsKilledAtARandomMoment, EveryPageComesOutAsWithoutItAndNoAcceptedPanelIsRenderedAgain) {
  for (int round = 1; round <= g_rounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    const int seed = 1000 * round;
    std::mt19937 random(static_cast<unsigned>(round));
    const Files expected = Reference::Render(seed);
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
  ExpectSame(farm.Fetch(job), Reference::Render(7));
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
  ExpectSame(farm.Fetch(job), Reference::Render(7));
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
  ExpectSame(before, Reference::Render(8));
  farm.Signal("freezes", SIGCONT);
  // It delivers what it had, hears that nobody wants it, and works on.
  farm.Stop("stays");
  const std::string next = farm.SubmitStory(kPanels, 9);
  farm.WaitForEnd(next);
  ExpectSame(farm.Fetch(next), Reference::Render(9));
  std::filesystem::remove_all(farm.File("fetched-" + job));
  ExpectSame(farm.Fetch(job), before);
}

TEST(WhenTheDiskOfTheCoordinatorIsFull, NothingAcceptedIsLostAndItGoesOnOnceThereIsRoom) {
  Farm farm(NullEngines(20));
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
  ExpectSame(farm.Fetch(job), Reference::Render(10));
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
  ExpectSame(farm.Fetch(job), Reference::Render(11));
  ExpectNoWaste(farm, job, false);
  farm.Stop("full");  // before its disk goes
}

TEST(WhenABlobIsHalfWritten, ItIsWrittenAnewAndNobodySeesTheHalf) {
  const Files expected = Reference::Render(12, 100'000);
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
  const Files expected = Reference::Render(13, kBytes);
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
  ExpectSame(farm.Fetch(job), Reference::Render(14));
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
  ExpectSame(farm.Fetch(job), Reference::Render(15));
  ExpectNoWaste(farm, job, true);
  EXPECT_EQ(farm.Log("farm").find("task returned"), std::string::npos) << farm.Log("farm");
}

}  // namespace
}  // namespace storyfarm::e2e

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::string_view(argv[i]) == "--rounds") storyfarm::e2e::g_rounds = std::atoi(argv[i + 1]);
  }
  testing::AddGlobalTestEnvironment(new storyfarm::e2e::Reference);  // gtest's own from here on
  return RUN_ALL_TESTS();
}
