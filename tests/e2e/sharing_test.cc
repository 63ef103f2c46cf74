// What machines of a farm share, with real processes and the real renderer: text embeddings, identity state from worker
// to worker, and identity state that is read while it is computed. Pictures are those of a farm of one worker.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>

#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"
#include "tests/e2e/farm.h"

namespace storyfarm::e2e {
namespace {

// A character whose one identity frame is no panel, so that every panel is a frame that reads it.
std::string Story(int panels, int steps, int seed = 3) {
  std::string story =
      "title: Shared\n"
      "characters:\n"
      "  Mia:\n"
      "    description: a girl with red hair\n"
      "    identity_prompts: [\"a girl with red hair, standing in the forest\"]\n";
  story += "settings: {steps: " + std::to_string(steps) + ", reproducible: true, seed: " + std::to_string(seed) + "}\n";
  story += "panels:\n";
  for (int panel = 0; panel < panels; ++panel) {
    story += "  - \"[Mia] sitting on the beach, picture " + std::to_string(panel) + "\"\n";
  }
  return story;
}

const std::string kModel = std::string(STORYFARM_SOURCE_DIR) + "/deploy/examples/demo-model";

class FarmSharingTest : public testing::Test {
 protected:
  static std::unique_ptr<Farm> Start() {
    auto farm = std::make_unique<Farm>();
    farm->StartCoordinator();
    farm->MustStoryctl({"models", "add", "demo", kModel});
    return farm;
  }
  static std::string Submit(Farm& farm, const std::string& story) {
    std::ofstream(farm.File("story.yaml")) << story;
    return farm.MustStoryctl({"submit", farm.File("story.yaml"), "--model", "demo"});
  }
  static nlohmann::json Task(Farm& farm, const std::string& job, const std::string& name) {
    const nlohmann::json status = farm.Status(job);
    for (const nlohmann::json& task : status["tasks"]) {
      if (task["task"] == job + "/" + name) return task;
    }
    return nullptr;
  }
  // Bytes that a worker fetched, by its own count.
  static uint64_t Fetched(const Farm& farm, const std::string& worker, const std::string& from) {
    uint64_t bytes = 0;
    const std::string log = farm.Log(worker);
    const std::regex pattern(from + "_bytes=([0-9]+)");
    for (std::sregex_iterator at(log.begin(), log.end(), pattern), end; at != end; ++at) bytes += std::stoull((*at)[1]);
    return bytes;
  }
  // Bytes of blobs that the coordinator gave to whoever asked, by its count when it stopped.
  static uint64_t Given(const Farm& farm) {
    const std::string log = farm.Log("farm");
    std::smatch match;
    EXPECT_TRUE(std::regex_search(log, match, std::regex("blob_bytes_given=([0-9]+)"))) << log;
    return match.empty() ? 0 : std::stoull(match[1]);
  }
};

TEST_F(FarmSharingTest, WhatAHitNeedsGoesFromWorkerToWorkerAndNotThroughTheCoordinator) {
  const auto farm = Start();
  farm->StartWorker("one");
  const std::string story = Story(6, 4);
  const std::string first = Submit(*farm, story);
  farm->WaitForEnd(first);
  EXPECT_EQ(Fetched(*farm, "one", "from_peers"), 0u);
  // The same once more, beside a worker with an empty cache: its model, the character's pack and the prompts come from
  // the first one. Where that one stalls the coordinator gives them, as it should, and another worker is asked to show it.
  std::string second;
  std::string name;
  uint64_t from_peers = 0;
  uint64_t from_coordinator = 0;
  for (const char* next : {"two", "three", "four"}) {
    if (!name.empty()) farm->Stop(name);
    name = next;
    farm->StartWorker(name);
    farm->WaitUntil("the new worker", [&] { return farm->MustStoryctl({"nodes"}).find(name) != std::string::npos; });
    second = Submit(*farm, story);
    farm->WaitForEnd(second);
    EXPECT_EQ(farm->Status(second)["identity_seconds"], 0);
    EXPECT_EQ(Task(*farm, second, "text/0")["attempts"], 0) << "the identity came as a pack";
    EXPECT_EQ(Task(*farm, second, "text/1")["attempts"], 0) << "the prompts are those of the first job";
    from_peers = Fetched(*farm, name, "from_peers");
    from_coordinator += Fetched(*farm, name, "from_coordinator");
    if (from_peers > 0) break;
  }
  EXPECT_GT(from_peers, std::filesystem::file_size(kModel + "/unet/diffusion_pytorch_model.safetensors"));
  EXPECT_LT(Fetched(*farm, name, "from_coordinator"), from_peers / 4) << "pictures, for pages";
  // All that the coordinator gave to anyone is what the workers say that they had from it: of the hit, nothing.
  from_coordinator += Fetched(*farm, "one", "from_coordinator");
  farm->Stop("farm");
  EXPECT_EQ(Given(*farm), from_coordinator);
  farm->StartCoordinator();
  const Files once = farm->Fetch(first);
  ExpectSame(farm->Fetch(second), once);
}

TEST_F(FarmSharingTest, WhoDrawsFromEmbeddingsBringsNoTextEncoderUntilItIsToEncodePrompts) {
  const auto farm = Start();
  farm->StartWorker("one");
  const std::string first = Submit(*farm, Story(3, 4));
  farm->WaitForEnd(first);
  farm->MustStoryctl({"worker", "pause", "one"});
  farm->StartWorker("two");
  const std::string second = Submit(*farm, Story(3, 4));
  farm->WaitForEnd(second);
  const auto has = [&farm](const std::string& path) {
    const std::string digest = base::Digest::Of(*base::Env::Real().ReadFile(kModel + "/" + path)).Hex();
    return std::filesystem::exists(farm->File("two/cache/" + digest.substr(0, 2) + "/" + digest));
  };
  const std::string encoders[] = {"text_encoder/model.safetensors", "text_encoder_2/model.safetensors"};
  for (const std::string& encoder : encoders) EXPECT_FALSE(has(encoder)) << encoder;
  for (const char* needed : {"unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
                             "text_encoder/config.json", "tokenizer/vocab.json"}) {
    EXPECT_TRUE(has(needed)) << needed;
  }
  const Files once = farm->Fetch(first);
  ExpectSame(farm->Fetch(second), once);
  // Other prompts, with the engine that has drawn already.
  const std::string third = Submit(*farm, Story(2, 4));
  farm->WaitForEnd(third);
  EXPECT_EQ(Task(*farm, third, "text/1")["attempts"], 1);
  for (const std::string& encoder : encoders) EXPECT_TRUE(has(encoder)) << encoder;
}

// A disk changes a file of a running worker's cache, which no download and no start will look at again.
TEST_F(FarmSharingTest, AFileOfAWorkersOwnCacheThatIsDamagedIsDroppedFetchedAgainAndDrawsNoWrongPicture) {
  const auto farm = Start();
  farm->StartWorker("one");
  const std::string story = Story(2, 3);
  const std::string first = Submit(*farm, story);
  farm->WaitForEnd(first);
  const nlohmann::json list = nlohmann::json::parse(farm->MustStoryctl({"characters", "list", "--json"}));
  const std::string key = list["characters"][0]["key"];
  const nlohmann::json pack = nlohmann::json::parse(farm->MustStoryctl({"characters", "show", key, "--json"}));
  const std::string digest = pack["steps"].back()["digest"];
  const std::string path = farm->File("one/cache/" + digest.substr(0, 2) + "/" + digest);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file.put('!');
  file.close();
  ASSERT_TRUE(file.good()) << path;
  const std::string second = Submit(*farm, story);
  farm->WaitForEnd(second);
  EXPECT_NE(farm->Log("one").find("damaged_files_dropped=1"), std::string::npos) << farm->Log("one");
  EXPECT_EQ(farm->Status(second)["identity_seconds"], 0) << "the farm's copy is whole";
  const Files once = farm->Fetch(first);
  ExpectSame(farm->Fetch(second), once);
}

TEST_F(FarmSharingTest, AFrameIsDrawnBesideTheIdentityThatItReadsAndIsTheSamePicture) {
  const std::string story = Story(3, 24, 9);
  const auto alone = Start();
  alone->StartWorker("one");
  const std::string undisturbed = Submit(*alone, story);
  alone->WaitForEnd(undisturbed);
  const Files expected = alone->Fetch(undisturbed);
  alone->Stop("one");

  const auto farm = Start();
  farm->StartWorker("one");
  farm->StartWorker("two");
  farm->WaitForEnd(Submit(*farm, Story(4, 3)));  // both have the model
  const std::string job = Submit(*farm, story);
  farm->WaitForEnd(job);
  EXPECT_NE(farm->Log("farm").find("ahead=1"), std::string::npos) << "no frame followed its identity";
  EXPECT_EQ(farm->Status(job)["frames_attempted"], 3);
  ExpectSame(farm->Fetch(job), expected);
}

}  // namespace
}  // namespace storyfarm::e2e
