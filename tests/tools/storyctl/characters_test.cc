// characters list, show, name and remove, and what status and plan say of packs, against a coordinator in memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tools/storyctl/fake_farm.h"
#include "tests/tools/storyctl/harness.h"

namespace storyfarm::storyctl {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class CharacterCommands : public FarmCommandsTest {
 protected:
  void SetUp() override {
    FarmCommandsTest::SetUp();
    farm::v1::PackStatus pack;
    pack.set_name("rex-v1");
    farm::v1::PackManifest& manifest = *pack.mutable_manifest();
    manifest.set_key(std::string(32, '\xab'));
    manifest.set_character("Rex");
    manifest.set_description("a dog with a party hat");
    manifest.set_model("demo");
    manifest.set_size_bytes(5'500'000'000);
    manifest.set_render_ms(41'500);
    manifest.set_job_id("j-0");
    manifest.set_title("The dog");
    manifest.set_node("attic");
    manifest.mutable_settings()->set_steps(30);
    manifest.mutable_settings()->set_scheduler(farm::v1::EULER);
    manifest.mutable_bank()->set_identity_frames(2);
    manifest.mutable_bank()->add_steps()->set_digest(std::string(32, 'b'));
    manifest.add_frames()->set_prompt("a dog sits");
    farm_->packs.push_back(pack);
  }
};

TEST_F(CharacterCommands, ListShowsWhatThereIsAndWhatItTook) {
  EXPECT_EQ(Run({"characters", "list"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("Rex"), HasSubstr("rex-v1"), HasSubstr("abababababab"), HasSubstr("41.5 s"),
                                HasSubstr("j-0"), HasSubstr("5.5 GB")));
  EXPECT_EQ(Run({"characters", "list", "--json"}), 0);
  ASSERT_THAT(Json()["characters"], SizeIs(1));
  const nlohmann::json pack = Json()["characters"][0];
  EXPECT_EQ(pack["identity_seconds"], 41.5);
  EXPECT_EQ(pack["bytes"], 5'500'000'000);
  EXPECT_FALSE(pack.contains("steps")) << "a list is short";
  farm_->packs.clear();
  EXPECT_EQ(Run({"characters", "list"}), 0);
  EXPECT_THAT(err_.str(), HasSubstr("no characters yet"));
}

TEST_F(CharacterCommands, ShowTellsHowItWasMade) {
  EXPECT_EQ(Run({"characters", "show", "rex-v1"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("a dog with a party hat"), HasSubstr("30 steps, euler"),
                                HasSubstr("j-0 (The dog) on attic"), HasSubstr("a dog sits")));
  EXPECT_EQ(Run({"characters", "show", "rex-v1", "--json"}), 0);
  EXPECT_THAT(Json()["steps"], SizeIs(1));
  EXPECT_EQ(Json()["settings"]["steps"], 30);
  EXPECT_EQ(Run({"characters", "show", "nobody"}), 4);
  EXPECT_THAT(err_.str(), HasSubstr("nobody"));
}

TEST_F(CharacterCommands, NamesAndRemovalsAreCheckedBeforeAndByTheFarm) {
  EXPECT_EQ(Run({"characters", "name", "rex-v1", "deadbeef"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("reads as the beginning of a key"));
  EXPECT_EQ(farm_->packs[0].name(), "rex-v1");
  EXPECT_EQ(Run({"characters", "name", "rex-v1", "rex-v2"}), 0) << err_.str();
  EXPECT_EQ(out_.str(), "abababababab (Rex) is called rex-v2\n");
  EXPECT_EQ(Run({"characters", "name", "rex-v1", "x"}), 4);
  farm_->packs[0].add_live_jobs("j-7");
  EXPECT_EQ(Run({"characters", "remove", "rex-v2"}), 5);
  EXPECT_THAT(err_.str(), HasSubstr("j-7"));
  farm_->packs[0].clear_live_jobs();
  EXPECT_EQ(Run({"characters", "remove", "rex-v2", "--json"}), 0);
  EXPECT_EQ(Json()["removed"], true);
  EXPECT_THAT(farm_->packs, SizeIs(0));
  EXPECT_EQ(Run({"characters"}), 2);
}

TEST_F(CharacterCommands, StatusTellsPackHitsAndIdentitySeconds) {
  farm::v1::JobStatus status;
  status.set_job_id("j-1");
  status.set_state(farm::v1::JOB_DONE);
  status.set_identities_total(2);
  status.set_identities_done(2);
  status.set_identities_reused(1);
  status.set_identity_ms(2500);
  farm::v1::TaskStatus& task = *status.add_tasks();
  task.mutable_task()->set_job_id("j-1");
  task.mutable_task()->set_kind(farm::v1::TASK_IDENTITY);
  task.mutable_pack()->set_key(std::string(32, '\xab'));
  task.mutable_pack()->set_job_id("j-0");
  task.mutable_pack()->set_saved_ms(41'500);
  farm_->jobs["j-1"] = {status};
  EXPECT_EQ(Run({"status", "j-1", "--tasks"}), 0);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("characters: 2 of 2, pack hits: 1, identity seconds: 2.5"),
                                HasSubstr("pack hit: abababababab, made by j-0 in 41.5 s")));
  EXPECT_EQ(Run({"status", "j-1", "--tasks", "--json"}), 0);
  EXPECT_EQ(Json()["identity_seconds"], 2.5);
  EXPECT_EQ(Json()["identities_reused"], 1);
  EXPECT_EQ(Json()["tasks"][0]["pack"]["saved_seconds"], 41.5);
}

TEST_F(CharacterCommands, APlanAsksTheFarmForAPackThatTheStoryNames) {
  const std::string model = std::string(STORYFARM_SOURCE_DIR) + "/tests/data/tiny_sdxl";
  const std::string story = Write("rex.yaml", "characters:\n  Rex: {description: a dog, pack: nobody}\n"
                                              "panels: [\"[Rex] runs\"]\n");
  EXPECT_EQ(Run({"plan", story, "--model", model, "--device", "cpu,16GiB"}), 2);
  EXPECT_THAT(err_.str(), AllOf(HasSubstr("rex.yaml:2"), HasSubstr("'nobody'")));
  const std::string other = Write("dog.yaml", "characters:\n  Rex: {description: a dog, pack: rex-v1}\n"
                                              "panels: [\"[Rex] runs\"]\n");
  EXPECT_EQ(Run({"plan", other, "--model", model, "--device", "cpu,16GiB"}), 2);
  EXPECT_THAT(err_.str(), AllOf(HasSubstr("'rex-v1' does not fit"), Not(HasSubstr("keeps no"))));
  EXPECT_EQ(Run({"render", other, "--model", model, "--out", Path("out")}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("renders without one"));
}

}  // namespace
}  // namespace storyfarm::storyctl
