// worker, user and coordinator, against a coordinator in memory. join itself: tests/e2e/trust_test.cc.
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

class MemberCommands : public FarmCommandsTest {
 protected:
  void SetUp() override {
    FarmCommandsTest::SetUp();
    farm::v1::Member& worker = *farm_->members.add_members();
    worker.set_member_id("01");
    worker.set_kind(farm::v1::MEMBER_WORKER);
    worker.set_name("attic");
    worker.set_node_id("n1");
    worker.set_joined_unix_ms(1'795'000'000'000);
    worker.set_expires_unix_ms(1'826'000'000'000);
    farm::v1::Member& user = *farm_->members.add_members();
    user.set_member_id("02");
    user.set_kind(farm::v1::MEMBER_USER);
    user.set_name("ann");
    user.set_role(farm::v1::ROLE_VIEWER);
    farm::v1::NodeStatus& node = *farm_->nodes.add_nodes();
    node.set_node_id("n1");
    node.set_name("attic");
    node.set_connected(true);
    node.add_devices()->mutable_report()->set_name("M4");
    farm::v1::NodeStatus& here = *farm_->nodes.add_nodes();
    here.set_node_id("n2");
    here.set_name("desk");
  }
};

TEST_F(MemberCommands, AddPrintsWhatToRunThereAndTheCodeApart) {
  EXPECT_EQ(Run({"worker", "add", "--name", "mini"}), 0) << err_.str();
  EXPECT_THAT(out_.str(),
              AllOf(HasSubstr("storyfarm-worker --join\n"), HasSubstr("farm-code-of-mini"), HasSubstr("15 minutes")));
  EXPECT_THAT(out_.str(), Not(HasSubstr("--join farm-"))) << "never on a command line";
  EXPECT_EQ(Run({"user", "add", "bob", "--role", "submitter", "--json"}), 0) << err_.str();
  EXPECT_EQ(Json()["command"], "storyctl join");
  EXPECT_EQ(Json()["code"], "farm-code-of-bob");
  EXPECT_EQ(Json()["expires_in_s"], 900);
  ASSERT_THAT(farm_->invited, SizeIs(2));
  EXPECT_EQ(farm_->invited[1].role(), farm::v1::ROLE_SUBMITTER);
  EXPECT_EQ(Run({"user", "add", "bob", "--role", "king"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("say viewer, submitter or admin"));
}

TEST_F(MemberCommands, ListShowsMachinesThatJoinedAndThoseOfTheFarmsOwn) {
  EXPECT_EQ(Run({"worker", "list"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("attic"), HasSubstr("connected"), HasSubstr("2027-11-"), HasSubstr("M4"),
                                HasSubstr("desk"), HasSubstr("on the farm's machine")));
  EXPECT_THAT(out_.str(), Not(HasSubstr("ann")));
  EXPECT_EQ(Run({"worker", "list", "--json"}), 0);
  ASSERT_THAT(Json()["workers"], SizeIs(2));
  EXPECT_EQ(Json()["workers"][0]["state"], "connected");
  EXPECT_EQ(Run({"user", "list", "--json"}), 0);
  EXPECT_EQ(Json()["users"][0]["role"], "viewer");
  EXPECT_EQ(Run({"coordinator", "list"}), 0);
  EXPECT_THAT(err_.str(), HasSubstr("no coordinator of another machine has joined"));
}

TEST_F(MemberCommands, RenameAndRemoveSayWhatBecameOfThem) {
  EXPECT_EQ(Run({"worker", "rename", "attic", "cellar"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("attic is cellar from now on"));
  EXPECT_EQ(Run({"worker", "remove", "cellar"}), 0) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("what it was drawing goes to others"));
  EXPECT_EQ(Run({"worker", "remove", "cellar"}), 4);
}

TEST_F(MemberCommands, LimitSendsWhatWasSaidAndTellsWhatHoldsNow) {
  EXPECT_EQ(Run({"worker", "limit", "attic", "--memory-gb", "7.5", "--hours", "20:00-08:00", "--power", "mains",
                 "--idle-minutes", "10", "--devices", "mps"}),
            0)
      << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("attic: at most 7.5 GB of each device; mps alone; 20:00-08:00; on mains power; when "
                                    "nobody used it for 10 min"));
  EXPECT_THAT(err_.str(), HasSubstr("warning: within these limits"));
  EXPECT_EQ(Run({"worker", "limit", "attic", "--memory-gb", "4", "--json"}), 0) << err_.str();
  ASSERT_THAT(farm_->limited, SizeIs(2));
  EXPECT_EQ(farm_->limited[1].memory_bytes(), 4'000'000'000u);
  EXPECT_FALSE(farm_->limited[1].has_hours()) << "what was not said stays";
  EXPECT_EQ(Json()["limits"]["memory_bytes"], 4'000'000'000u);
  EXPECT_EQ(Json()["limits"]["power"], "mains");
  EXPECT_THAT(Json()["warnings"], SizeIs(1));
  EXPECT_EQ(Run({"worker", "list"}), 0);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("LIMITS"), HasSubstr("at most 4 GB of each device; mps alone")));
  EXPECT_EQ(Run({"nodes"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("attic: limited by storyctl worker limit: at most 4 GB"));
  EXPECT_EQ(Run({"nodes", "--json"}), 0);
  EXPECT_EQ(Json()["nodes"][0]["limits"]["devices"][0], "mps");
  EXPECT_EQ(Json()["nodes"][1]["limits"]["memory_bytes"], nullptr);
  EXPECT_EQ(Run({"worker", "limit", "attic", "--none"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("attic has no limits from here"));
}

TEST_F(MemberCommands, LimitRefusesWhatCantBeMeantWithoutAskingTheFarm) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> wrong = {
      {{"--hours", "in the evening"}, "\"19:00-07:00\""}, {{"--memory-gb", "-1"}, "--memory-gb"},
      {{"--memory-gb", "0.0001"}, "--memory-gb is in GB"},  {{"--memory-gb", "much"}, "--memory-gb"},
      {{"--power", "solar"}, "--power"},                    {{"--idle-minutes", "5000"}, "0 to 1440"},
      {{"--devices", "the card"}, "\"cuda:0,cuda:1\""}};
  for (const auto& [flags, what] : wrong) {
    std::vector<std::string> words = {"worker", "limit", "attic"};
    words.insert(words.end(), flags.begin(), flags.end());
    EXPECT_EQ(Run(words), 2) << flags[1];
    EXPECT_THAT(err_.str(), HasSubstr(what));
  }
  EXPECT_THAT(farm_->limited, SizeIs(0));
  EXPECT_EQ(Run({"worker", "limit", "barn", "--none"}), 4);
}

TEST_F(MemberCommands, AFarmOnAnotherMachineThatWasNotJoinedSaysHowToJoin) {
  EXPECT_EQ(Run({"jobs", "--farm", "192.168.1.5:7850"}), 5);
  EXPECT_THAT(err_.str(), HasSubstr("run storyctl join here with a new code from the farm's machine"));
}

}  // namespace
}  // namespace storyfarm::storyctl
