// Machines and people that join by code, with real processes over TLS on loopback. The engines render nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <fstream>

#include "tests/e2e/farm.h"

namespace storyfarm::e2e {
namespace {

using testing::HasSubstr;
using testing::Not;

FarmOptions OpenToOthers(int step_ms) {
  FarmOptions options;
  options.null_engine = true;
  options.step_ms = step_ms;
  options.coordinator_arguments = {"--network", "127.0.0.1:0"};
  return options;
}

std::string CodeOf(Farm& farm, const std::vector<std::string>& arguments) {
  std::vector<std::string> words = arguments;
  words.push_back("--json");
  const nlohmann::json answer = nlohmann::json::parse(farm.MustStoryctl(words), nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(answer.is_object());
  return answer.is_object() ? answer.value("code", "") : "";
}

std::string StateOf(Farm& farm, const std::string& worker) {
  const nlohmann::json list = nlohmann::json::parse(farm.MustStoryctl({"worker", "list", "--json"}));
  for (const nlohmann::json& each : list["workers"]) {
    if (each["name"] == worker) return each["state"];
  }
  return "none";
}

TEST(FarmTrustTest, AWorkerThatJoinedByCodeDrawsUntilItIsRemovedAndThenItsWorkGoesElsewhere) {
  Farm farm(OpenToOthers(50));
  farm.StartCoordinator();
  farm.AddTinyModel();
  const std::string code = CodeOf(farm, {"worker", "add", "--name", "attic"});
  farm.StartJoiningWorker("mini", code);
  farm.WaitUntil("the worker", [&farm] { return StateOf(farm, "attic") == "connected"; });
  const std::string job = farm.SubmitStory(12, 7);
  farm.WaitFor(job, "its first panels", [](const nlohmann::json& status) { return status["frames_done"] >= 2; });
  const nlohmann::json status = farm.Status(job);
  for (const nlohmann::json& task : status["tasks"]) {
    if (task["state"] == "done") {
      EXPECT_EQ(task["node"], "attic");
    }
  }

  farm.MustStoryctl({"worker", "remove", "attic"});
  farm.WaitUntil("the removed worker's end", [&farm] { return !farm.Runs("mini"); });
  EXPECT_THAT(farm.Log("mini"), HasSubstr("is not in the farm's roster any more"));
  EXPECT_EQ(StateOf(farm, "attic"), "none");
  farm.StartWorker("here");
  farm.WaitForEnd(job);

  // It can't come back by itself, and its code is used up.
  farm.StartJoiningWorker("mini", code);
  farm.WaitUntil("the refusal of a used code", [&farm] { return !farm.Runs("mini"); });
  EXPECT_THAT(farm.Log("mini"), HasSubstr("This code has been used"));
  for (const std::string& log : {farm.Log("farm"), farm.Log("mini")}) EXPECT_THAT(log, Not(HasSubstr(code)));
}

// Hours that begin in two hours and are over in three.
std::string NotNow() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  const auto hour = [&local](int later) { return std::to_string((local.tm_hour + later) % 24) + ":00"; };
  return hour(2) + "-" + hour(3);
}

nlohmann::json LimitsOf(Farm& farm, const std::string& worker) {
  const nlohmann::json list = nlohmann::json::parse(farm.MustStoryctl({"worker", "list", "--json"}));
  for (const nlohmann::json& each : list["workers"]) {
    if (each["name"] == worker) return each["limits"];
  }
  return nullptr;
}

TEST(FarmTrustTest, AnAdminElsewhereLimitsAWorkerWhichObeysAtOnceAndAfterARestart) {
  const std::string hours = NotNow();
  Farm farm(OpenToOthers(30));
  farm.StartCoordinator();
  farm.AddTinyModel();
  const Result joined = farm.StoryctlOf("ann", {"join"}, CodeOf(farm, {"user", "add", "ann", "--role", "admin"}));
  ASSERT_EQ(joined.exit_code, 0) << joined.err;
  farm.StartWorker("here");
  const std::string job = farm.SubmitStory(12, 7);
  farm.WaitFor(job, "its first panels", [](const nlohmann::json& status) { return status["frames_done"] >= 1; });

  const Result none = farm.StoryctlOf("ann", {"worker", "limit", "here", "--memory-gb", "0.1"});
  EXPECT_EQ(none.exit_code, 5) << none.out;
  EXPECT_THAT(none.err, HasSubstr("here could draw with no model of the farm: tiny takes at least"));
  const Result limited = farm.StoryctlOf("ann", {"worker", "limit", "here", "--hours", hours});
  EXPECT_EQ(limited.exit_code, 0) << limited.err;
  farm.WaitUntil("the worker's rest", [&farm] { return StateOf(farm, "here") == "rests"; });
  const int done = farm.Status(job)["frames_done"];
  EXPECT_THAT(farm.MustStoryctl({"nodes"}), HasSubstr("its owner lends it at other hours (" + hours + ")"));
  EXPECT_THAT(farm.Log("here"), HasSubstr("the farm limits this machine: " + hours));

  farm.Stop("farm");
  farm.StartCoordinator();
  farm.WaitUntil("the worker's rest", [&farm] { return StateOf(farm, "here") == "rests"; });
  EXPECT_EQ(LimitsOf(farm, "here")["hours"], hours);
  farm.Kill("here");
  farm.StartWorker("here");  // which knows nothing of it until it is welcomed
  farm.WaitUntil("the worker's rest", [&farm] { return StateOf(farm, "here") == "rests"; });
  EXPECT_LE(farm.Status(job)["frames_done"].get<int>(), done + 1) << "at most what was on its way";
  farm.MustStoryctl({"worker", "limit", "here", "--none"});
  farm.WaitForEnd(job);
  EXPECT_EQ(LimitsOf(farm, "here")["words"], "");
}

// A service or a container is started with the same words each time.
TEST(FarmTrustTest, AServiceJoinsWithTheCodeInAFileOnceAndNeedsNoneAfterwards) {
  Farm farm(OpenToOthers(1));
  farm.StartCoordinator();
  farm.StartWorkerWithCodeFile("pod");
  farm.WaitUntil("the end of one without a code", [&farm] { return !farm.Runs("pod"); });
  EXPECT_THAT(farm.Log("pod"), HasSubstr("pod.code"));

  std::ofstream(farm.File("pod.code")) << CodeOf(farm, {"worker", "add", "--name", "gpu-0"}) << "\n";
  farm.StartWorkerWithCodeFile("pod");
  farm.WaitUntil("the worker", [&farm] { return StateOf(farm, "gpu-0") == "connected"; });
  farm.Stop("pod");
  // The code is used up; the file may go or stay.
  farm.StartWorkerWithCodeFile("pod");
  farm.WaitUntil("the worker again", [&farm] { return StateOf(farm, "gpu-0") == "connected"; });
}

TEST(FarmTrustTest, APersonElsewhereMayDoWhatTheirRoleSaysAndNothingAfterTheyAreRemoved) {
  Farm farm(OpenToOthers(1));
  farm.StartCoordinator();
  farm.AddTinyModel();
  farm.StartWorker("here");
  const std::string job = farm.SubmitStory(4, 1);
  farm.WaitForEnd(job);

  const Result before = farm.StoryctlOf("ann", {"jobs"});
  EXPECT_EQ(before.exit_code, 3) << "she has no farm yet";
  const Result joined = farm.StoryctlOf("ann", {"join"}, CodeOf(farm, {"user", "add", "ann", "--role", "viewer"}));
  EXPECT_EQ(joined.exit_code, 0) << joined.err << farm.Logs();
  EXPECT_THAT(joined.out, HasSubstr("as ann, viewer"));

  EXPECT_THAT(farm.StoryctlOf("ann", {"jobs"}).out, HasSubstr(job));
  const Result fetched = farm.StoryctlOf("ann", {"fetch", job, "--out", farm.File("anns")});
  EXPECT_EQ(fetched.exit_code, 0) << fetched.err;
  const Result steered = farm.StoryctlOf("ann", {"rm", job});
  EXPECT_EQ(steered.exit_code, 5);
  EXPECT_THAT(steered.err, HasSubstr("ann is a viewer of this farm, and this takes the role submitter"));

  farm.MustStoryctl({"user", "remove", "ann"});
  const Result after = farm.StoryctlOf("ann", {"jobs"});
  EXPECT_EQ(after.exit_code, 5);
  EXPECT_THAT(after.err, HasSubstr("has to join again with a new code"));
}

}  // namespace
}  // namespace storyfarm::e2e
