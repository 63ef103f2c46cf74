// CharacterPacks with real processes and the real renderer: a second chapter and a second job compute no identity, and
// their pictures are those of a farm that never had the pack.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/e2e/farm.h"

namespace storyfarm::e2e {
namespace {

constexpr char kHead[] =
    "title: Two Friends\n"
    "characters:\n"
    "  Mia: a girl with red hair\n"
    "  Rex: a dog with a party hat\n"
    "settings: {steps: 3, reproducible: true, seed: 3}\n"
    "chapters:\n";
constexpr char kFirstChapter[] =
    "  - title: Morning\n"
    "    panels:\n"
    "      - \"[Mia] standing in the forest\"\n"
    "      - \"[Mia] sitting on the beach\"\n"
    "      - \"[Rex] running on the beach\"\n"
    "      - \"[Mia] and [Rex] in the forest\"\n";
constexpr char kSecondChapter[] =
    "  - title: Evening\n"
    "    panels:\n"
    "      - \"[Mia] reading in the forest\"\n"
    "      - \"[Rex] sleeping on the beach\"\n";

class FarmPacksTest : public testing::Test {
 protected:
  static std::unique_ptr<Farm> Start() {
    auto farm = std::make_unique<Farm>();
    farm->StartCoordinator();
    farm->StartWorker("one");
    farm->MustStoryctl({"models", "add", "demo", std::string(STORYFARM_SOURCE_DIR) + "/deploy/examples/demo-model"});
    return farm;
  }
  // Renders a story to its end and returns the job.
  static std::string Render(Farm& farm, const std::string& story) {
    std::ofstream(farm.File("story.yaml")) << story;
    const std::string job = farm.MustStoryctl({"submit", farm.File("story.yaml"), "--model", "demo"});
    farm.WaitForEnd(job);
    return job;
  }
  // The files of both chapters from a farm that never had a pack.
  static const Files& Undisturbed() {
    static const Files* const files = [] {
      const auto farm = Start();
      const std::string job = Render(*farm, std::string(kHead) + kFirstChapter + kSecondChapter);
      EXPECT_EQ(farm->Status(job)["identities_reused"], 0);
      return new Files(farm->Fetch(job));
    }();
    return *files;
  }
  static nlohmann::json Characters(Farm& farm) {
    return nlohmann::json::parse(farm.MustStoryctl({"characters", "list", "--json"}))["characters"];
  }
};

TEST_F(FarmPacksTest, ASecondChapterComputesNoIdentityAndItsPicturesAreThoseOfAFarmWithoutThePack) {
  const std::string both = std::string(kHead) + kFirstChapter + kSecondChapter;
  const auto farm = Start();
  const std::string first = Render(*farm, std::string(kHead) + kFirstChapter);
  EXPECT_GT(farm->Status(first)["identity_seconds"], 0);
  EXPECT_EQ(farm->Status(first)["identities_reused"], 0);
  const std::string second = Render(*farm, both);
  const nlohmann::json status = farm->Status(second);
  EXPECT_EQ(status["identity_seconds"], 0) << status.dump(1);
  EXPECT_EQ(status["identities_reused"], 2);
  for (const nlohmann::json& task : status["tasks"]) {
    if (!task.contains("pack")) continue;
    EXPECT_EQ(task["pack"]["made_by_job"], first);
    EXPECT_GT(task["pack"]["saved_seconds"], 0);
    EXPECT_EQ(task["attempts"], 0);
  }
  EXPECT_NE(farm->MustStoryctl({"status", second, "--tasks"}).find("pack hit: "), std::string::npos);
  EXPECT_NE(farm->MustStoryctl({"explain", second + "/identity/0"}).find("pack hit"), std::string::npos);
  // The whole story once more: every identity frame from the packs, the others drawn again.
  const std::string again = Render(*farm, both);
  EXPECT_EQ(farm->Status(again)["identity_seconds"], 0);

  ExpectSame(farm->Fetch(second), Undisturbed());
  ExpectSame(farm->Fetch(again), Undisturbed());
}

// A file of a pack that was damaged on the farm's disk, and that no machine has in its cache any more.
TEST_F(FarmPacksTest, ADamagedFileOfAPackIsFoundAndTheIdentityComputedAgainWithoutAWrongPicture) {
  const auto farm = Start();
  Render(*farm, std::string(kHead) + kFirstChapter);
  farm->Stop("one");
  for (const nlohmann::json& listed : Characters(*farm)) {
    const std::string key = listed["key"];
    const nlohmann::json pack = nlohmann::json::parse(farm->MustStoryctl({"characters", "show", key, "--json"}));
    const std::string digest = pack["steps"].back()["digest"];
    const std::string path = farm->File("farm/blobs/" + digest.substr(0, 2) + "/" + digest);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('!');
    ASSERT_TRUE(file.good()) << path;
  }
  farm->StartWorker("two");
  const std::string job = Render(*farm, std::string(kHead) + kFirstChapter + kSecondChapter);
  EXPECT_GT(farm->Status(job)["identity_seconds"], 0) << "what the pack no longer gave";
  EXPECT_NE(farm->Log("farm").find("identity is computed again"), std::string::npos);
  ExpectSame(farm->Fetch(job), Undisturbed());
  // The pack is whole again.
  EXPECT_EQ(farm->Status(Render(*farm, std::string(kHead) + kFirstChapter))["identity_seconds"], 0);
}

TEST_F(FarmPacksTest, AnotherStoryThatNamesThePackComputesNoIdentityAndReadsTheSameBank) {
  const auto farm = Start();
  const std::string first = Render(*farm, std::string(kHead) + kFirstChapter);
  std::string key;
  for (const nlohmann::json& pack : Characters(*farm)) {
    if (pack["character"] == "Mia") key = pack["key"];
  }
  farm->MustStoryctl({"characters", "name", key.substr(0, 12), "mia-v1"});
  const std::string named = Render(*farm,
                                   "title: Another\n"
                                   "characters:\n"
                                   "  Mia: {description: a girl with red hair, pack: mia-v1}\n"
                                   "settings: {steps: 3, reproducible: true, seed: 3}\n"
                                   "panels:\n"
                                   "  - \"[Mia] sitting on the beach\"\n"
                                   "  - \"[Mia] standing in the forest\"\n");
  const nlohmann::json status = farm->Status(named);
  EXPECT_EQ(status["identity_seconds"], 0) << status.dump(1);
  EXPECT_EQ(status["identities_reused"], 1);
  EXPECT_EQ(status["frames_attempted"], 2);
  // The panel that read the bank in the first story reads the same one here, and so is the same picture.
  const Files before = farm->Fetch(first), after = farm->Fetch(named);
  EXPECT_EQ(after.at("panels/000.png"), before.at("panels/001.png"));
  EXPECT_NE(after.at("panels/001.png"), before.at("panels/000.png")) << "which was an identity frame itself";

  const Result in_use = farm->Storyctl({"characters", "remove", "nobody"});
  EXPECT_EQ(in_use.exit_code, 4) << in_use.err;
  farm->MustStoryctl({"characters", "remove", "mia-v1"});
  EXPECT_EQ(Characters(*farm).size(), 1u);
  std::ofstream(farm->File("gone.yaml")) << "title: Gone\ncharacters:\n  Mia: {description: a girl, pack: mia-v1}\n"
                                            "panels: [\"[Mia] running\"]\n";
  const Result gone = farm->Storyctl({"submit", farm->File("gone.yaml"), "--model", "demo"});
  EXPECT_EQ(gone.exit_code, 2);
  EXPECT_NE(gone.err.find("gone.yaml:3"), std::string::npos) << gone.err;
  EXPECT_NE(gone.err.find("characters[0].pack"), std::string::npos) << gone.err;
}

}  // namespace
}  // namespace storyfarm::e2e
