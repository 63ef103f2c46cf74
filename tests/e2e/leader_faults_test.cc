// Faults of coordinators: of one among two on the same Redis, and of one with a great deal to remember.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "tests/e2e/fault_rig.h"

namespace storyfarm::e2e {
namespace {

using Clock = std::chrono::steady_clock;

int64_t MsSince(Clock::time_point begin) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin).count();
}

// Coordinators "a", which leads, and "b", which stands by; two workers that know both.
class Pair : public Farm {
 public:
  Pair() : Farm(Options()) {
    StartCoordinator("a");
    BeginCoordinator("b");
    WaitUntil("the second one to stand by", [this] { return Log("b").find("stands by") != std::string::npos; });
    AddTinyModel();
    StartWorker("one");
    StartWorker("two");
  }
  // How long it takes until the second one serves.
  int64_t WaitForTheSecond() {
    const auto begin = Clock::now();
    WaitUntil("the second one to lead", [this] { return Storyctl({"jobs"}, Target("b")).exit_code == 0; });
    return MsSince(begin);
  }

 private:
  static FarmOptions Options() {
    FarmOptions options = NullEngines(40);
    options.own_redis = true;
    return options;
  }
};

TEST(WhenTheLeadingCoordinatorIsKilled, AnotherOneLeadsWithinFiveSecondsAndNothingIsRenderedTwice) {
  Pair farm;
  const Result refused = farm.Storyctl({"jobs"}, farm.Target("b"));
  EXPECT_EQ(refused.exit_code, 3);
  EXPECT_NE(refused.err.find("stands by"), std::string::npos) << refused.err;
  const std::string job = farm.SubmitStory(kPanels, 17);
  WaitForFrames(farm, job, 4);
  farm.Kill("a");
  const int64_t ms = farm.WaitForTheSecond();
  std::printf("[ figure   ] another coordinator led %lld ms after the leader's death\n", static_cast<long long>(ms));
  EXPECT_LT(ms, 5'000);
  farm.WaitForEnd(job);  // through the list of both
  ExpectSame(farm.Fetch(job), Reference(17));
  ExpectNoWaste(farm, job, true);
  // What was the leader comes back and waits in its turn.
  farm.BeginCoordinator("a");
  farm.WaitUntil("the first one to stand by", [&farm] { return farm.Log("a").find("stands by") != std::string::npos; });
}

TEST(WhenTheLeadingCoordinatorFreezesAndWakes, ItIsDeposedThrowsItsStateAwayAndStandsBy) {
  Pair farm;
  const std::string job = farm.SubmitStory(kPanels, 18);
  WaitForFrames(farm, job, 4);
  farm.Signal("a", SIGSTOP);
  EXPECT_LT(farm.WaitForTheSecond(), 5'000);
  const std::string next = farm.MustStoryctl({"submit", farm.File("story.yaml"), "--model", "tiny", "--key", "later"});
  farm.Signal("a", SIGCONT);
  // It never answers from what it remembers: it refuses until it knows better, and then stands by.
  farm.WaitUntil("the first one to stand by", [&farm, &next] {
    const Result asked = farm.Storyctl({"status", next}, farm.Target("a"));
    EXPECT_EQ(asked.exit_code, 3) << asked.out << asked.err;
    return asked.err.find("stands by") != std::string::npos;
  });
  EXPECT_TRUE(farm.Runs("a"));
  EXPECT_NE(farm.Log("a").find("what this one held in memory is thrown away"), std::string::npos) << farm.Log("a");
  farm.WaitForEnd(job);
  farm.WaitForEnd(next);
  ExpectSame(farm.Fetch(job), Reference(18));
  // And it can lead again: with what the other one wrote meanwhile.
  farm.Stop("b");
  farm.WaitUntil("the first one to lead", [&farm] { return farm.Storyctl({"jobs"}, farm.Target("a")).exit_code == 0; });
  EXPECT_EQ(farm.Status(next)["state"], "done");
}

TEST(WhenTheCoordinatorIsKilledWithAHundredThousandLiveFrames, ItServesAgainWithinTwoSecondsAndWhatRunsGoesOn) {
  constexpr int kJobs = 5;
  constexpr int kFrames = 20'000;
  Farm farm(NullEngines(300));
  farm.StartCoordinator();
  farm.AddTinyModel();
  std::vector<std::string> jobs;
  for (int i = 0; i < kJobs; ++i) {
    jobs.push_back(farm.SubmitStory(kFrames, 1'000'000 * i));
    ASSERT_FALSE(jobs.back().empty());
  }
  farm.StartWorker("one");
  farm.StartWorker("two");
  const auto done = [&farm] {
    int frames = 0;
    const auto listed = nlohmann::json::parse(farm.MustStoryctl({"jobs", "--json"}));
    for (const auto& job : listed["jobs"]) frames += job["frames_done"].get<int>();
    return frames;
  };
  farm.WaitUntil("frames that run", [&done] { return done() >= 2; });
  farm.Kill("farm");
  const auto begin = Clock::now();
  farm.StartCoordinator();
  const int64_t ms = MsSince(begin);
  std::printf("[ figure   ] serving again %lld ms after the start, with %d live frames\n", static_cast<long long>(ms),
              kJobs * kFrames);
  EXPECT_LT(ms, 2'000);
  const int before = done();
  farm.WaitUntil("more frames", [&] { return done() >= before + 4; });
  for (const auto& [panel_and_seed, times] : farm.Renders()) EXPECT_EQ(times, 1) << panel_and_seed;
  for (const std::string& job : jobs) farm.MustStoryctl({"cancel", job});
}

}  // namespace
}  // namespace storyfarm::e2e
