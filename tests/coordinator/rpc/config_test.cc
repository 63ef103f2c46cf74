// What the program was told, and by whom.
#include "coordinator/rpc/config.h"

#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::coordinator {
namespace {

using testing::HasSubstr;

class ConfigTest : public testing::Test {
 protected:
  absl::StatusOr<ConfigOrText> Read(const std::vector<std::string>& arguments) {
    return ReadConfig(
        arguments,
        [this](const std::string& name) { return variables_.count(name) == 0 ? std::string() : variables_[name]; },
        base::Env::Real(), "1.2.3");
  }
  std::string File(const std::string& text) {
    const std::string path = folder_.path() + "/config.yaml";
    EXPECT_TRUE(base::Env::Real().WriteFileDurably(path, text).ok());
    return path;
  }
  testing_support::TempFolder folder_;
  std::map<std::string, std::string> variables_{{"HOME", "/home/ann"}};
};

TEST_F(ConfigTest, FlagsGoBeforeVariablesBeforeTheFileBeforeDefaults) {
  const std::string file = File("listen: 127.0.0.1:1\nlog-format: json\ndata: /file\nredis: redis://file\n");
  variables_["STORYFARM_LISTEN"] = "127.0.0.1:2";
  variables_["STORYFARM_DATA"] = "/variable";
  const auto read = Read({"--config", file, "--listen", "127.0.0.1:3"});
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->config.listen, "127.0.0.1:3");
  EXPECT_EQ(read->config.data, "/variable");
  EXPECT_EQ(read->config.redis, "redis://file");
  EXPECT_EQ(read->config.log_format, "json");
}

TEST_F(ConfigTest, NothingSaidGivesThePlatformsPlaces) {
  const auto read = Read({});
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->config.data,
            *base::DefaultDataFolder([this](const std::string& name) { return variables_[name]; }, "coordinator"));
  EXPECT_EQ(read->config.log_format, "text");
  EXPECT_EQ(read->config.listen, "");
}

TEST_F(ConfigTest, WhatIsKeptIsSaidInDaysAndJobs) {
  const auto read = Read({"--config", File("keep-days: 2\n"), "--keep-jobs", "30", "--blob-quota", "3"});
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->config.keep_finished_ms, uint64_t{2} * 24 * 3600 * 1000);
  EXPECT_EQ(read->config.keep_finished_jobs, 30u);
  EXPECT_EQ(read->config.blob_quota_bytes, uint64_t{3} << 30);
  EXPECT_EQ(Read({})->config.keep_finished_ms, 0u);
  EXPECT_EQ(Read({})->config.blob_quota_bytes, 0u);
  EXPECT_EQ(Read({})->config.pack_budget_bytes, uint64_t{64} << 30);
  EXPECT_EQ(Read({"--blob-quota", "10"})->config.pack_budget_bytes, uint64_t{5} << 30) << "room for pictures stays";
  EXPECT_EQ(Read({"--pack-budget", "7"})->config.pack_budget_bytes, uint64_t{7} << 30);
  EXPECT_FALSE(Read({"--pack-budget", "11", "--blob-quota", "10"}).ok());
  for (const char* wrong : {"0", "-1", "ten", "36501"}) {
    const auto refused = Read({"--keep-days", wrong});
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--keep-days")) << wrong;
  }
}

TEST_F(ConfigTest, TheLowDiskMarkIsSaidInMebibytesAndMayBeSwitchedOff) {
  EXPECT_EQ(Read({})->config.low_disk_bytes, uint64_t{512} << 20);
  EXPECT_EQ(Read({"--low-disk", "2048"})->config.low_disk_bytes, uint64_t{2048} << 20);
  EXPECT_EQ(Read({"--low-disk", "0"})->config.low_disk_bytes, 0u);
  EXPECT_THAT(std::string(Read({"--low-disk", "much"}).status().message()), HasSubstr("--low-disk"));
}

TEST_F(ConfigTest, ThePageHasAUsualPortThatMayBeTakenOneThatIsAskedForOrNone) {
  EXPECT_EQ(Read({})->config.web, "127.0.0.1:7851");
  EXPECT_TRUE(Read({})->config.web_unsaid);
  EXPECT_EQ(Read({"--web", "127.0.0.1:7851"})->config.web, "127.0.0.1:7851");
  EXPECT_FALSE(Read({"--web", "127.0.0.1:7851"})->config.web_unsaid);
  EXPECT_EQ(Read({"--config", File("web: off\n")})->config.web, "off");
  EXPECT_EQ(Read({"--network", "0.0.0.0:7850"})->config.web, "127.0.0.1:7852") << "others join at 7851";
  EXPECT_EQ(Read({"--network", "0.0.0.0:7851"})->config.web, "127.0.0.1:7853");
  EXPECT_EQ(Read({"--network", "0.0.0.0:9000"})->config.web, "127.0.0.1:7851");
  EXPECT_EQ(Read({"--network", "0.0.0.0:7850", "--web", "127.0.0.1:7851"})->config.web, "127.0.0.1:7851");
}

TEST_F(ConfigTest, MistakesAreToldWithTheirPlace) {
  const auto unknown = Read({"--config", File("data: /x\nlissen: 127.0.0.1:1\n")});
  EXPECT_THAT(std::string(unknown.status().message()), testing::AllOf(HasSubstr("config.yaml:2"), HasSubstr("lissen")));
  EXPECT_TRUE(absl::IsInvalidArgument(Read({"--config", File("a: [b\n")}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Read({"--config", folder_.path() + "/none.yaml"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Read({"--frobnicate"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Read({"--log-format", "xml"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Read({"--port-file", "p"}).status()));
  EXPECT_THAT(std::string(Read({"--blobs", "/b"}).status().message()), HasSubstr("--blobs needs --redis"));
}

TEST_F(ConfigTest, OtherMachinesJoinAtThePortAfterTheFarmsUnlessItIsSaid) {
  const auto usual = Read({"--network", "0.0.0.0:7850", "--advertise", "studio.local,10.0.0.5"});
  ASSERT_TRUE(usual.ok()) << usual.status();
  EXPECT_EQ(usual->config.join_port_number, 7851);
  EXPECT_EQ(usual->config.advertise_hosts, (std::vector<std::string>{"studio.local", "10.0.0.5"}));
  EXPECT_FALSE(usual->config.join);
  EXPECT_EQ(Read({"--network", "0.0.0.0:7850", "--join-with", "/run/code"})->config.join_with, "/run/code");
  EXPECT_EQ(Read({"--network", "127.0.0.1:0"})->config.join_port_number, 0);
  EXPECT_EQ(Read({"--network", "[::]:7850", "--join-port", "9000", "--join"})->config.join_port_number, 9000);
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--network", "studio.local:7850"},
                                                {"--network", "0.0.0.0"},
                                                {"--network", "0.0.0.0:65535"},
                                                {"--network", "0.0.0.0:1", "--join-port", "many"},
                                                {"--join-port", "7851"},
                                                {"--join", "--join-with", "/run/code"},
                                                {"--advertise", "studio.local"}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Read(wrong).status())) << wrong[0] << " " << wrong[1];
  }
}

TEST_F(ConfigTest, HelpShowsEveryDefaultAndExitCode) {
  const auto help = Read({"--help"});
  ASSERT_TRUE(help.ok());
  for (const std::string text : {"/home/ann", "--listen", "--redis", "--log-format FORMAT=text", "Exit codes"}) {
    EXPECT_THAT(help->text, HasSubstr(text));
  }
  const auto version = Read({"--version"});
  ASSERT_TRUE(version.ok());
  EXPECT_THAT(version->text, HasSubstr("1.2.3"));
}

}  // namespace
}  // namespace storyfarm::coordinator
