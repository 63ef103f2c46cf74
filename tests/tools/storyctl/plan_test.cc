// storyctl plan: machines in words, and what a story would take of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "pipeline/model/model_folder.h"
#include "pipeline/model/profile.h"
#include "pipeline/plan/profile.h"
#include "tests/tools/storyctl/fake_farm.h"
#include "tests/tools/storyctl/harness.h"
#include "tools/storyctl/device_spec.h"

namespace storyfarm::storyctl {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kModel[] = STORYFARM_SOURCE_DIR "/tests/data/tiny_sdxl";
constexpr char kStory[] =
    "[Tom] a man in a hat\n[Anna] a girl with a kite\n\n"
    "[Tom] walks\n[Tom] sits\n[Anna] runs\n[Tom] and [Anna] wave\n[NC] the empty field\n[Tom] sleeps\n";

farm::v1::DeviceReport ReportOf(const std::string& text) {
  const auto spec = ParseDeviceSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.ok() ? spec->report : farm::v1::DeviceReport();
}

farm::v1::ModelProfile ProfileOfTiny() {
  const auto folder = model::ModelFolder::Open(base::Env::Real(), kModel);
  EXPECT_TRUE(folder.ok()) << folder.status();
  const auto profile = model::ProfileModel(*folder);
  EXPECT_TRUE(profile.ok()) << profile.status();
  return plan::ToMessage(*profile);
}

std::string ErrorOf(const std::string& text) {
  const auto spec = ParseDeviceSpec(text);
  EXPECT_FALSE(spec.ok()) << text;
  return std::string(spec.status().message());
}

TEST(DeviceSpecs, WhatIsWrittenIsWhatADeviceReports) {
  const farm::v1::DeviceReport report =
      ReportOf("cuda, 24GB,free=20.5gib,speed=80tflops,threads=8,name=GeForce RTX 4090");
  EXPECT_EQ(report.backend(), farm::v1::CUDA);
  EXPECT_EQ(report.name(), "GeForce RTX 4090");
  EXPECT_EQ(report.total_bytes(), 24'000'000'000u);
  EXPECT_EQ(report.free_bytes(), 22'011'707'392u);
  EXPECT_DOUBLE_EQ(report.speed_tflops(), 80);
  EXPECT_EQ(report.threads(), 8u);
  EXPECT_FALSE(report.unified());
  EXPECT_TRUE(ReportOf("cuda,unified,128GB").unified());
  EXPECT_TRUE(ReportOf("mps,16GiB").unified()) << "every Apple GPU is";
  EXPECT_EQ(ReportOf("mps,16GiB,recommended=12GB").recommended_max_bytes(), 12'000'000'000u);
  EXPECT_EQ(ReportOf("cpu,free=2GB").total_bytes(), 2'000'000'000u);
}

TEST(DeviceSpecs, WhatTheWordsLeaveOpenIsAssumedAndSaid) {
  const auto open = ParseDeviceSpec("mps,unified,16GiB");
  ASSERT_TRUE(open.ok()) << open.status();
  EXPECT_TRUE(open->speed_assumed);
  EXPECT_THAT(open->assumed, SizeIs(3));
  EXPECT_THAT(open->assumed, Contains(HasSubstr("speed=NUMBERtflops")));
  EXPECT_LT(open->report.recommended_max_bytes(), open->report.total_bytes());
  EXPECT_EQ(open->report.free_bytes(), open->report.recommended_max_bytes());
  const auto closed = ParseDeviceSpec("mps,16GiB,free=9GB,recommended=11GB,speed=3.6");
  ASSERT_TRUE(closed.ok()) << closed.status();
  EXPECT_FALSE(closed->speed_assumed);
  EXPECT_THAT(closed->assumed, IsEmpty());
}

TEST(DeviceSpecs, AnErrorNamesThePartThatIsWrongAndShowsAnExample) {
  const std::pair<const char*, const char*> cases[] = {
      {"rocm,16GiB", "'rocm' is no backend"},
      {"16GiB,mps", "'16GiB' is no backend"},
      {"mps,16", "'16' is no size"},
      {"mps,16GiBs", "'16GiBs' is no size"},
      {"mps,1.2.3GB", "'1.2.3GB' is no size"},
      {"mps,0GB", "'0GB' is no size"},
      {"mps,16GiB,free=much", "'free=much' is no size"},
      {"mps,16GiB,free=", "'free=' is no size"},
      {"mps,16GiB,fast", "'fast' is not understood"},
      {"mps,16GiB,speed=0", "'speed=0' is no speed"},
      {"mps,16GiB,speed=4gflops", "'speed=4gflops' is no speed"},
      {"cpu,16GiB,threads=0", "'threads=0' is no number of threads"},
      {"mps,16GiB,name=", "'name=' is not understood"},
      {"mps,16GiB,8GiB", "'8GiB' says its memory a second time"},
      {"mps,,16GiB", "a part between commas is empty"},
      {"", "a part between commas is empty"},
      {"mps,unified", "how much memory"},
      {"cuda,8GB,recommended=6GB", "cuda has no Metal"},
      {"mps,8GB,free=9GB", "is more than the 8.0 GB that it has"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_THAT(ErrorOf(text), AllOf(HasSubstr(message), HasSubstr("--device \"mps,16GiB\""))) << text;
  }
}

class PlanCommand : public StoryctlTest {
 protected:
  void SetUp() override {
    StoryctlTest::SetUp();
    story_ = Write("story.txt", kStory);
  }
  int RunPlan(std::vector<std::string> devices, std::vector<std::string> more = {"--model", kModel}) {
    std::vector<std::string> arguments = {"plan"};
    for (const std::string& device : devices) arguments.insert(arguments.end(), {"--device", device});
    arguments.push_back(story_);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Run(arguments);
  }
  std::string story_;
};

TEST_F(PlanCommand, EveryPanelStandsInOneGroupWithItsPlan) {
  ASSERT_EQ(RunPlan({"mps,unified,16GiB"}, {"--model", kModel, "--json"}), 0) << err_.str();
  const nlohmann::json document = Json();
  EXPECT_EQ(document["panels"], 6);
  ASSERT_THAT(document["devices"], SizeIs(1));
  const nlohmann::json& device = document["devices"][0];
  std::vector<int> panels;
  double seconds = 0;
  uint64_t peak = 0;
  std::vector<std::string> kinds;
  for (const nlohmann::json& group : device["groups"]) {
    kinds.push_back(group["kind"]);
    for (const int panel : group["panels"]) panels.push_back(panel);
    seconds += group["times"].get<double>() * group["plan"]["predicted_seconds"].get<double>();
    peak = std::max(peak, group["plan"]["predicted_peak_bytes"].get<uint64_t>());
  }
  std::sort(panels.begin(), panels.end());
  EXPECT_THAT(panels, ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(kinds[0], "identity");
  EXPECT_EQ(kinds[1], "identity");
  EXPECT_EQ(kinds[2], "frames");
  EXPECT_EQ(device["groups"][0]["characters"], nlohmann::json::array({"Tom"}));
  EXPECT_EQ(device["predicted_peak_bytes"], peak);
  EXPECT_LE(peak, device["budget_bytes"].get<uint64_t>());
  EXPECT_NEAR(device["predicted_seconds"].get<double>(), seconds, 1e-9);
  EXPECT_EQ(device["speed_assumed"], true);
  EXPECT_EQ(device["refused"], false);
}

TEST_F(PlanCommand, TextSaysWhatIsPredictedAndWhatTheSecondsRestOn) {
  ASSERT_EQ(RunPlan({"mps,16GiB"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("6 panels"), HasSubstr("identity of Tom: 1 frame, panel 0"),
                                HasSubstr("panels that read Tom and Anna (2 identity frames): 1 frame, panel 3"),
                                HasSubstr("panels that read no identity: 1 frame, panel 4")));
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("in all: predicted"), HasSubstr("at the assumed speed"), HasSubstr("VAE"),
                                HasSubstr("bank"), HasSubstr("text encoders")));
  ASSERT_EQ(RunPlan({"mps,16GiB,speed=3.6tflops"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("in all: predicted"), Not(HasSubstr("assumed speed"))));
}

TEST_F(PlanCommand, AFasterMachineIsPredictedToBeFasterAndSettingsCount) {
  const auto seconds = [&](const std::string& device, std::vector<std::string> more) {
    more.insert(more.end(), {"--model", kModel, "--json"});
    EXPECT_EQ(RunPlan({device}, more), 0) << err_.str();
    return Json()["devices"][0]["predicted_seconds"].get<double>();
  };
  const double slow = seconds("cpu,4GB,speed=0.01tflops", {});
  EXPECT_GT(slow, 2 * seconds("cpu,4GB,speed=0.1tflops", {}));
  const std::string settings = Write("settings.json", R"({"steps": 4})");
  EXPECT_GT(slow, 4 * seconds("cpu,4GB,speed=0.01tflops", {"--settings", settings}));
}

TEST_F(PlanCommand, AReproducibleStoryHasOneOfTheThreadsThatReachTheSpeed) {
  const std::string settings = Write("settings.json", R"({"reproducible": true})");
  const auto seconds = [&](const std::string& device) {
    EXPECT_EQ(RunPlan({device}, {"--model", kModel, "--settings", settings, "--json"}), 0) << err_.str();
    return Json()["devices"][0]["predicted_seconds"].get<double>();
  };
  EXPECT_GT(seconds("cpu,4GB,speed=0.01,threads=4"), 2 * seconds("cpu,4GB,speed=0.01,threads=1"));
  EXPECT_GT(seconds("cpu,4GB"), seconds("cpu,4GB,speed=0.15,threads=1")) << "the assumed speed is two cores'";
}

TEST_F(PlanCommand, ARefusalNamesMemoryThatDoesAndLessDoesNot) {
  EXPECT_EQ(RunPlan({"cpu,4GB,free=150MB"}, {"--model", kModel, "--json"}), 6);
  const nlohmann::json refused = Json()["devices"][0];
  EXPECT_EQ(refused["refused"], true);
  EXPECT_FALSE(refused.contains("predicted_seconds")) << "no total of a part";
  EXPECT_GT(refused["groups"][0]["refusal"]["needed_bytes"].get<uint64_t>(), refused["budget_bytes"].get<uint64_t>());
  const uint64_t needed = refused["needed_free_bytes"].get<uint64_t>();
  const auto with = [&](uint64_t bytes) { return RunPlan({absl::StrCat("cpu,4GB,free=", bytes / 1'000'000, "MB")}); };
  EXPECT_EQ(with(needed + 999'999), 0);
  EXPECT_EQ(RunPlan({"mps,4GB,recommended=150MB"}), 6);
  EXPECT_THAT(out_.str(), HasSubstr("GB free and recommended by Metal it would draw the whole story"));
  EXPECT_EQ(with(needed - 1'000'000), 6);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("refused"), HasSubstr("GB free it would draw the whole story")));
}

TEST_F(PlanCommand, SeveralMachinesAreComparedAndOneThatCanIsEnough) {
  EXPECT_EQ(RunPlan({"cpu,4GB,free=150MB", "cuda,8GB,speed=30tflops"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("DEVICE"), HasSubstr("PREDICTED TIME"), HasSubstr("30 TFLOP/s\n"),
                                HasSubstr("0.15 TFLOP/s, assumed\n")));
}

TEST_F(PlanCommand, ASetLargerThanOneRequestIsCountedInEqualGroups) {
  std::string text = "[Tom] a man in a hat\n\n";
  for (int i = 0; i < 200; ++i) absl::StrAppend(&text, "[Tom] does thing ", i, "\n");
  story_ = Write("long.txt", text);
  ASSERT_EQ(RunPlan({"mps,16GiB"}, {"--model", kModel, "--json"}), 0) << err_.str();
  const nlohmann::json groups = Json()["devices"][0]["groups"];
  ASSERT_THAT(groups, SizeIs(3));
  uint64_t frames = 0;
  for (const nlohmann::json& group : groups) {
    frames += group["times"].get<uint64_t>() * group["frames"].get<uint64_t>();
  }
  EXPECT_EQ(frames, 200u);
  EXPECT_EQ(groups[1]["times"], 3);
}

TEST_F(PlanCommand, WhatIsWrongIsBadInputAndNamed) {
  EXPECT_EQ(RunPlan({"mps"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("how much memory"));
  EXPECT_EQ(RunPlan({}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("--device"));
  EXPECT_EQ(RunPlan({"mps,16GiB"}, {"--model", Path("no/model")}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("no/model"));
  EXPECT_EQ(RunPlan({"mps,16GiB"}, {}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("the story names no model"));
  story_ = Write("story.yaml", "title: x\nsettings: {width: 100}\nchapters: [{panels: [a man]}]\n");
  EXPECT_EQ(RunPlan({"mps,16GiB"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("story.yaml"));
}

TEST_F(PlanCommand, AModelThatIsNoFolderIsAskedOfTheFarm) {
  FakeFarm farm(Path("farm.sock"));
  ASSERT_EQ(RunPlan({"mps,16GiB"}, {"--model", kModel, "--json"}), 0) << err_.str();
  const nlohmann::json here = Json();
  ASSERT_EQ(Run({"models", "add", "tiny", kModel, "--farm", farm.target()}), 0) << err_.str();
  // The profile is what a coordinator computes of the files.
  farm.models[0].mutable_profile()->CopyFrom(ProfileOfTiny());
  ASSERT_EQ(RunPlan({"mps,16GiB"}, {"--model", "tiny", "--json", "--farm", farm.target()}), 0) << err_.str();
  EXPECT_EQ(Json()["devices"], here["devices"]);
  EXPECT_EQ(RunPlan({"mps,16GiB"}, {"--model", "large", "--farm", farm.target()}), 4);
  EXPECT_THAT(err_.str(), HasSubstr("neither a folder 'large' nor a model of that name"));
  EXPECT_EQ(RunPlan({"mps,16GiB"}, {"--model", "tiny", "--farm", "unix:" + Path("nobody.sock")}), 3);
  EXPECT_THAT(err_.str(), HasSubstr("--model FOLDER needs no farm"));
}

}  // namespace
}  // namespace storyfarm::storyctl
