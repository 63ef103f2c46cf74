// storyctl render through the real engine on random-weight models: parity with recorded runs, replay, and what is left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/model/safetensors.h"
#include "tests/tools/storyctl/harness.h"

namespace storyfarm::storyctl {
namespace {

using ::testing::HasSubstr;

constexpr char kEngine[] = STORYFARM_BIN_DIR "/storyfarm-engine";
constexpr char kData[] = STORYFARM_SOURCE_DIR "/tests/data/";

// Noise of 1e-6 on the initial latents moves a run's end by 6e-5; a mistake in the method by 6e-3 and more.
constexpr double kTolerance = 1e-3;

// Tensors of a file by name, float32.
std::map<std::string, std::vector<float>> ReadTensors(const std::string& path) {
  std::map<std::string, std::vector<float>> tensors;
  const auto file = model::SafetensorsFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status();
  if (!file.ok()) return tensors;
  for (const model::TensorInfo& info : (*file)->tensors()) {
    EXPECT_EQ(info.type, model::TensorType::kF32) << info.name;
    std::vector<float>& values = tensors[info.name];
    values.resize(info.size_bytes / sizeof(float));
    std::memcpy(values.data(), (*file)->Bytes(info).data(), info.size_bytes);
  }
  return tensors;
}

double LargestDifference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= largest)) largest = difference;  // NaN counts
  }
  return largest;
}

using RenderTest = StoryctlTest;

// Expected latents: tools/golden/consistent_attention.py, diffusers 0.42.1 with the method's own attention, float32.
TEST_F(RenderTest, RecordedRunsAreReplayedToTheSameLatents) {
  const std::string folder = std::string(kData) + "golden/csa/";
  const nlohmann::json cases = nlohmann::json::parse(Read(folder + "cases.json"));
  ASSERT_FALSE(cases.empty());
  for (const nlohmann::json& entry : cases) {
    const std::string name = entry["name"];
    SCOPED_TRACE(name);
    const std::string of_case = folder + name + "/";
    const int code = Run({"render", of_case + entry["story"].get<std::string>(), "--model",
                          kData + entry["model"].get<std::string>(), "--out", Path(name), "--settings",
                          of_case + "settings.json", "--draws", of_case + "draws.safetensors", "--latents",
                          Path(name + ".safetensors"), "--engine", kEngine, "--device", "cpu", "--threads", "1"});
    ASSERT_EQ(code, 0) << err_.str();
    const auto expected = ReadTensors(of_case + "expected.safetensors");
    const auto latents = ReadTensors(Path(name + ".safetensors"));
    double largest = 0;
    size_t compared = 0;
    for (const auto& [key, values] : expected) {
      if (key.rfind("latents/", 0) != 0) continue;
      const auto found = latents.find(key);
      ASSERT_NE(found, latents.end()) << key;
      largest = std::max(largest, LargestDifference(found->second, values));
      ++compared;
    }
    EXPECT_EQ(compared, latents.size()) << "panels and nothing else";
    std::cout << "parity: " << name << ": " << compared << " panels, largest difference of latents " << largest << "\n";
    EXPECT_LE(largest, kTolerance);
  }
}

constexpr char kStory[] =
    "[Mia] a girl with blue hat\n[Tom] a cat\n\n"
    "[Mia] sitting #Mia sits.\n[Mia] walking #She walks.\n[Mia] and [Tom] running #Both run.\n[NC] a forest #Trees.\n";

TEST_F(RenderTest, SavedDrawsReplayToTheSameBytes) {
  const std::string story = Write("story.txt", kStory);
  const std::string settings = Write("settings.json", R"({"width": 48, "height": 48, "steps": 4, "seed": 5})");
  const std::vector<std::string> common = {"render",     story,    "--model",   std::string(kData) + "tiny_sdxl",
                                           "--settings", settings, "--engine",  kEngine,
                                           "--device",   "cpu",    "--threads", "1"};
  auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = common;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  ASSERT_EQ(Run(with({"--out", Path("a"), "--save-draws", Path("new/draws"), "--latents", Path("new/a")})), 0)
      << err_.str();
  ASSERT_EQ(Run(with({"--out", Path("b"), "--draws", Path("new/draws"), "--latents", Path("b.latents")})), 0)
      << err_.str();
  const auto first = ReadTensors(Path("new/a"));
  ASSERT_EQ(first.size(), 4u);
  EXPECT_EQ(first, ReadTensors(Path("b.latents")));
  EXPECT_EQ(Read(Path("a/panels/002.png")), Read(Path("b/panels/002.png")));
}

TEST_F(RenderTest, LeavesPanelsPagesBookAndMetadataAndNothingElse) {
  const std::string story = Write("story.txt", kStory);
  const std::string settings = Write("settings.json", R"({"width": 48, "height": 48, "steps": 2})");
  ASSERT_EQ(Run({"render", story, "--model", std::string(kData) + "tiny_sdxl", "--settings", settings, "--engine",
                 kEngine, "--device", "cpu", "--threads", "1", "--out", Path("out"), "--json"}),
            0)
      << err_.str();
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(Path("out"))) {
    if (entry.is_regular_file()) files.push_back(std::filesystem::relative(entry.path(), Path("out")).string());
  }
  EXPECT_THAT(files,
              ::testing::UnorderedElementsAre("panels/000.png", "panels/001.png", "panels/002.png", "panels/003.png",
                                              "pages/00.png", "story.pdf", "story.cbz", "metadata.json"));
  EXPECT_EQ(Read(Path("out/panels/003.png")).substr(1, 3), "PNG");
  const nlohmann::json report = Json();
  EXPECT_EQ(report["panels"].size(), 4u);
  EXPECT_EQ(report["panels"][2]["characters"], (std::vector<std::string>{"Mia", "Tom"}));
  EXPECT_GT(report["peak_bytes"], 0);
  EXPECT_GT(report["total_seconds"], 0);
  EXPECT_EQ(report["settings"]["steps"], 2);
  EXPECT_EQ(nlohmann::json::parse(Read(Path("out/metadata.json")))["panels"], report["panels"]);
}

// ---- Memory: the demo model, whose weights are what a cap can save.

constexpr char kDemo[] = STORYFARM_SOURCE_DIR "/deploy/examples/demo-model";
constexpr char kTwoPanels[] = "[Bo] a bear in a red shirt\n\n[Bo] sitting on the beach\n[Bo] running in the snow\n";
// What the planner keeps of a small machine that shares its memory.
constexpr uint64_t kReserveBytes = 128'000'000;

class MemoryTest : public RenderTest {
 protected:
  int RunRender(const std::string& out, std::vector<std::string> more, const char* story = kTwoPanels) {
    std::vector<std::string> arguments = {"render",   Write("story.txt", story),      "--model",   kDemo, "--out",
                                          Path(out),  "--settings",                   Path("set"), "--device",
                                          "cpu",      "--threads",                    "1",         "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Run(arguments);
  }
  // The least limit with which nothing is refused.
  std::string LeastGigabytes() {
    EXPECT_EQ(Run({"plan", Write("story.txt", kTwoPanels), "--model", kDemo, "--settings", Path("set"), "--device",
                   "cpu,1GB,free=130MB", "--json"}),
              6);
    uint64_t needed = 0;
    const nlohmann::json groups = Json()["devices"][0]["groups"];
    for (const nlohmann::json& group : groups) {
      needed = std::max(needed, group["refusal"]["needed_bytes"].get<uint64_t>());
    }
    return absl::StrFormat("%.9f", static_cast<double>(needed + kReserveBytes) * 1e-9);
  }
};

TEST_F(MemoryTest, AReproducibleStoryIsDrawnToTheSameBytesFromWeightsThatStream) {
  Write("set", R"({"width": 64, "height": 64, "steps": 2, "reproducible": true, "int8_weights": true})");
  ASSERT_EQ(RunRender("roomy", {"--engine", kEngine}), 0) << err_.str();
  EXPECT_EQ(Json()["plans"][0]["weights"], "resident");
  ASSERT_EQ(RunRender("tight", {"--engine", kEngine, "--limit-memory-gb", LeastGigabytes()}), 0) << err_.str();
  const nlohmann::json plans = Json()["plans"];
  ASSERT_EQ(plans.size(), 2u);
  for (const nlohmann::json& plan : plans) {
    EXPECT_EQ(plan["weights"], "streamed");
    EXPECT_EQ(plan["int8_weights"], false) << "rounding would show in the bytes";
    EXPECT_LE(plan["peak_bytes"].get<uint64_t>() - plan["overhead_bytes"].get<uint64_t>(),
              plan["predicted_peak_bytes"].get<uint64_t>() - plan["framework_bytes"].get<uint64_t>());
  }
  for (const char* panel : {"/panels/000.png", "/panels/001.png"}) {
    EXPECT_EQ(Read(Path(std::string("tight") + panel)), Read(Path(std::string("roomy") + panel)));
  }
}

TEST_F(MemoryTest, AGroupThatRunsOutUnderARealLimitIsPlannedAgainWithLess) {
  Write("set", R"({"width": 384, "height": 384, "steps": 1, "consistency": "off"})");
  constexpr char kOnePanel[] = "[Bo] a bear\n\n[NC] a forest in the snow\n";
  ASSERT_EQ(RunRender("roomy", {"--engine", kEngine}, kOnePanel), 0) << err_.str();
  const nlohmann::json whole = Json()["plans"][0];
  ASSERT_EQ(whole["vae_tile"], 0);
  // A process may have so much data: less than whole pictures take, enough for tiles. Stacks of threads count as if they
  // were used: small ones.
  const auto took = whole["peak_bytes"].get<uint64_t>();
  const std::string engine = Write("engine", absl::StrCat("#!/bin/sh\nulimit -s 1024\nulimit -d ",
                                                         took / 1024 * 86 / 100, "\nexec ", kEngine, " \"$@\"\n"));
  std::filesystem::permissions(engine, std::filesystem::perms::owner_all);
  const std::string limit =
      absl::StrFormat("%.9f", (whole["predicted_peak_bytes"].get<double>() + kReserveBytes) * 1e-9);
  ASSERT_EQ(RunRender("tight", {"--engine", engine, "--limit-memory-gb", limit}, kOnePanel), 0) << err_.str();
  EXPECT_THAT(err_.str(), HasSubstr("out of memory"));
  const nlohmann::json plans = Json()["plans"];
  ASSERT_GE(plans.size(), 2u);
  EXPECT_EQ(plans[0]["vae_tile"], 0);
  EXPECT_FALSE(plans[0].contains("peak_bytes")) << "it did not come to its end";
  EXPECT_GT(plans.back()["vae_tile"], 0);
  EXPECT_GT(plans.back()["peak_bytes"], 0);
}

TEST_F(RenderTest, PanelsAreDrawnWhereNoFontCanBeReadAndThePagesSayWhyThereAreNone) {
  std::filesystem::create_directories(Path("share/examples/fonts"));
  Write("share/examples/fonts/broken.otf", "no font");
  variables_["STORYFARM_SHARE"] = Path("share");
  const std::string story = Write("story.txt", kStory);
  const std::string settings = Write("settings.json", R"({"width": 48, "height": 48, "steps": 2})");
  EXPECT_EQ(
      Run({"render", story, "--model", std::string(kData) + "tiny_sdxl", "--settings", settings, "--engine", kEngine,
           "--device", "cpu", "--threads", "1", "--out", Path("out"), "--latents", Path("latents.safetensors")}),
      1);
  EXPECT_THAT(err_.str(), HasSubstr("broken.otf"));
  EXPECT_THAT(err_.str(), HasSubstr("pages: no font was found"));
  EXPECT_TRUE(std::filesystem::exists(Path("out/panels/003.png")));
  EXPECT_EQ(ReadTensors(Path("latents.safetensors")).size(), 4u);
}

TEST_F(RenderTest, AStoryThatDoesNotSuitTheModelIsRefusedBeforeAnEngineStarts) {
  const std::string story = Write("story.txt", kStory);
  const std::string settings = Write("settings.json", R"({"width": 50, "steps": 2})");
  EXPECT_EQ(Run({"render", story, "--model", std::string(kData) + "tiny_sdxl", "--settings", settings, "--engine",
                 "/nowhere", "--out", Path("out")}),
            2);
  EXPECT_THAT(err_.str(), HasSubstr("the nearest are 48 and 64"));
  EXPECT_FALSE(std::filesystem::exists(Path("out")));
  EXPECT_EQ(Run({"render", story, "--model", Path("no-model"), "--out", Path("out")}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("no-model"));
}

TEST_F(RenderTest, WordsThatTheModelWasNotTaughtAreWarnings) {
  std::filesystem::copy(std::string(kData) + "tiny_sdxl", Path("model"), std::filesystem::copy_options::recursive);
  Write("model/words.txt", "a\nand\nblue\ncat\nforest\ngirl\nhat\nrun\nsit\nwith\n");
  const std::string story = Write("story.txt", kStory);
  const std::string settings = Write("settings.json", R"({"width": 48, "height": 48, "steps": 1, "style": "sketch"})");
  ASSERT_EQ(Run({"render", story, "--model", Path("model"), "--settings", settings, "--engine", kEngine, "--device",
                 "cpu", "--threads", "1", "--out", Path("out")}),
            0)
      << err_.str();
  const std::string said = err_.str();
  EXPECT_THAT(said, HasSubstr("story.txt:4:7: warning: chapters[0].panels[0].text: panel 0 says 'sitting', which this "
                              "model was not taught (did you mean 'sit'?)\n"));
  EXPECT_THAT(said, HasSubstr("story.txt:5:7: warning: chapters[0].panels[1].text: panel 1 says 'walking', which this "
                              "model was not taught\n"));
  EXPECT_THAT(said, HasSubstr("settings.json:1:51: warning: settings.style: the style says 'sketch', which"));
  EXPECT_THAT(said, HasSubstr("(did you mean 'run'?)"));
  size_t warnings = 0;
  for (size_t at = said.find("not taught"); at != std::string::npos; at = said.find("not taught", at + 1)) ++warnings;
  EXPECT_EQ(warnings, 4u) << said;

  Write("model/words.txt", "Cat\n");
  EXPECT_EQ(Run({"render", story, "--model", Path("model"), "--out", Path("out")}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("words.txt:1: 'Cat'"));
}

TEST_F(RenderTest, ADrawsFileOfAnotherStoryFailsWithAReason) {
  const std::string story = Write("story.txt", kStory);
  const std::string settings = Write("settings.json", R"({"width": 48, "height": 48, "steps": 3})");
  const int code = Run({"render", story, "--model", std::string(kData) + "tiny_sdxl", "--settings", settings, "--draws",
                        std::string(kData) + "golden/csa/masked/draws.safetensors", "--engine", kEngine, "--device",
                        "cpu", "--threads", "1", "--out", Path("out")});
  EXPECT_EQ(code, 1);
  EXPECT_THAT(err_.str(), HasSubstr("panel 0: "));
  EXPECT_THAT(err_.str(), HasSubstr("draws.safetensors"));
}

}  // namespace
}  // namespace storyfarm::storyctl
