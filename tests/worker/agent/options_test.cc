#include "worker/agent/options.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "tests/support/temp_folder.h"

namespace storyfarm::worker {
namespace {

using testing_support::TempFolder;

absl::StatusOr<ProgramOptions> Read(const std::vector<std::string>& arguments,
                                    std::map<std::string, std::string> variables = {}) {
  variables.emplace("HOME", "/home/someone");
  return ReadOptions(
      arguments,
      [variables](const std::string& name) { return variables.count(name) > 0 ? variables.at(name) : std::string(); },
      base::Env::Real(), "host", "1.2.3");
}

TEST(Options, HaveDefaultsForEverything) {
  const auto options = Read({});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->agent.node_name, "host");
  EXPECT_TRUE(options->agent.devices.empty());
  EXPECT_NE(options->agent.data_folder.find("worker"), std::string::npos);
  EXPECT_EQ(options->agent.link.coordinator.rfind("unix:", 0), 0U);
  EXPECT_EQ(options->agent.cache_bytes, 50'000'000'000U);
}

TEST(Options, FlagsGoBeforeVariablesBeforeTheFileBeforeDefaults) {
  TempFolder folder;
  std::ofstream(folder.File("c.yaml")) << "name: file\nthreads: 2\ndevices: mps\n";
  const auto options = Read({"--name", "flag", "--config", folder.File("c.yaml")},
                            {{"STORYFARM_NAME", "variable"}, {"STORYFARM_THREADS", "3"}});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->agent.node_name, "flag");
  EXPECT_EQ(options->agent.threads, 3);
  EXPECT_EQ(options->agent.devices, std::vector<std::string>{"mps"});
}

TEST(Options, ADataFolderIsAWholePathWhereverTheWorkerWasStarted) {
  const auto options = Read({"--data", "cache/../here/"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->agent.data_folder, (std::filesystem::current_path() / "here").string());
}

TEST(Options, TheFarmThatWasJoinedIsTheDefault) {
  TempFolder folder;
  std::filesystem::create_directories(folder.File("trust"));
  std::ofstream(folder.File("trust/farm")) << "tls:192.168.1.5:7850\n";
  const auto joined = Read({"--data", folder.path()});
  ASSERT_TRUE(joined.ok()) << joined.status();
  EXPECT_EQ(joined->agent.link.coordinator, "tls:192.168.1.5:7850");
  EXPECT_EQ(joined->agent.link.trust_folder, folder.File("trust"));
  EXPECT_FALSE(joined->join);
  const auto said = Read({"--data", folder.path(), "--join"}, {{"STORYFARM_FARM", "unix:/tmp/s"}});
  ASSERT_TRUE(said.ok()) << said.status();
  EXPECT_EQ(said->agent.link.coordinator, "unix:/tmp/s");
  EXPECT_TRUE(said->join);
  const auto with = Read({"--data", folder.path(), "--join-with", "/run/code"});
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_EQ(with->join_with, "/run/code");
  EXPECT_FALSE(with->join);
  EXPECT_TRUE(absl::IsInvalidArgument(Read({"--data", folder.path(), "--join", "--join-with", "/run/code"}).status()));
}

TEST(Options, SayWhereWorkersOfOtherMachinesReadTheCache) {
  EXPECT_EQ(Read({})->agent.peers, "0.0.0.0:0");
  const auto said = Read({"--peers", "[::]:7860", "--advertise", "mini.local"});
  ASSERT_TRUE(said.ok()) << said.status();
  EXPECT_EQ(said->agent.peers, "[::]:7860");
  EXPECT_EQ(said->agent.advertise, "mini.local");
  EXPECT_EQ(Read({"--peers", "off"})->agent.peers, "");
  for (const std::string wrong : {"7860", "mini.local:7860", "0.0.0.0:70000", "unix:/tmp/x"}) {
    const absl::Status status = Read({"--peers", wrong}).status();
    EXPECT_EQ(status.message().substr(0, 8), "--peers:") << status;
  }
  for (const std::string wrong : {"mini.local:7860", "a,b", "unix:/tmp/x", "a b"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Read({"--advertise", wrong}).status())) << wrong;
  }
}

TEST(Options, HelpShowsEachDefault) {
  const auto options = Read({"--help"});
  ASSERT_TRUE(options.ok());
  for (const char* shown :
       {"--devices", "=auto", "--cache-gb", "=50", "=host", "STORYFARM_WORKER_DATA", "Exit codes"}) {
    EXPECT_NE(options->text.find(shown), std::string::npos) << shown << "\n" << options->text;
  }
  EXPECT_EQ(Read({"--version"})->text, "storyfarm-worker 1.2.3\n");
}

TEST(Options, NameWhatIsWrong) {
  TempFolder folder;
  std::ofstream(folder.File("c.yaml")) << "name: x\ncolour: red\n";
  const auto unknown = Read({"--config", folder.File("c.yaml")});
  EXPECT_NE(unknown.status().message().find("c.yaml:2"), absl::string_view::npos) << unknown.status();
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--threads", "many"},
                                                {"--coordinator", "farm"},
                                                {"--devices", "gpu"},
                                                {"--cache-gb", "0"},
                                                {"--limit-memory-gb", "-1"},
                                                {"--log-format", "xml"},
                                                {"--name", ""},
                                                {"--what"}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Read(wrong).status())) << wrong[0];
  }
}

TEST(Options, TheDoctorTakesTheWorkersFlagsBeforeAndBehindItsName) {
  EXPECT_FALSE(Read({})->doctor);
  const auto behind = Read({"doctor", "--json", "--name", "attic"});
  ASSERT_TRUE(behind.ok()) << behind.status();
  EXPECT_TRUE(behind->doctor && behind->doctor_json);
  EXPECT_EQ(behind->agent.node_name, "attic");
  const auto before = Read({"--name", "attic", "doctor"});
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_TRUE(before->doctor && !before->doctor_json);
  EXPECT_FALSE(Read({"--json"}).ok()) << "the worker itself has no such form";
}

TEST(Options, WhatTheOwnerAllowsIsReadAndNonsenseIsRefusedByName) {
  const auto options = Read({"--hours", "mon-fri 20:00-08:00, sat", "--power", "mains", "--idle-minutes", "10"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->agent.owner.hours.size(), 6U);
  EXPECT_TRUE(options->agent.owner.mains_only);
  EXPECT_EQ(options->agent.owner.idle_minutes, 10);
  const OwnerRules standard = Read({})->agent.owner;
  EXPECT_TRUE(standard.hours.empty() && !standard.mains_only && standard.idle_minutes == 0);
  EXPECT_TRUE(standard.cool_only) << "heat is yielded to, whatever else is said";
  EXPECT_FALSE(Read({"--heat", "ignore"})->agent.owner.any());
  for (const auto& [flag, value] : {std::pair("--hours", "8-17"), std::pair("--power", "battery"),
                                    std::pair("--idle-minutes", "-1"), std::pair("--idle-minutes", "soon"), std::pair("--heat", "melt")}) {
    const absl::Status wrong = Read({flag, value}).status();
    EXPECT_EQ(wrong.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(wrong.message().find(flag), std::string::npos) << wrong;
  }
}

}  // namespace
}  // namespace storyfarm::worker
