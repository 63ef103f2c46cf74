#include "worker/agent/wakefulness.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/eventually.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::worker {
namespace {

using testing_support::Eventually;
using testing_support::TempFolder;

class Counted final : public Wakefulness {
 public:
  absl::Status Hold() override {
    ++holds;
    return status;
  }
  void LetGo() override { ++let_go; }
  absl::Status Try() override { return status; }
  absl::Status status;
  int holds = 0, let_go = 0;
};

TEST(AwakeWhileLeased, HoldsOnceForAllLeasesAndLetsGoWithTheLastOrWhenItEnds) {
  Counted counted;
  base::Log log(
      base::LogFormat::kText, [](std::string_view) {}, [] { return uint64_t{0}; });
  {
    AwakeWhileLeased awake(&counted, &log);
    awake.Tell(false);
    EXPECT_EQ(counted.holds, 0);
    awake.Tell(true);
    awake.Tell(true);
    EXPECT_EQ(counted.holds, 1);
    awake.Tell(false);
    awake.Tell(false);
    EXPECT_EQ(counted.let_go, 1);
    awake.Tell(true);
  }
  EXPECT_EQ(counted.holds, 2);
  EXPECT_EQ(counted.let_go, 2);
}

TEST(AwakeWhileLeased, ASystemThatRefusesIsSaidOnceAndNeverLetGo) {
  Counted counted;
  counted.status = absl::UnavailableError("there is no logind");
  std::string said;
  base::Log log(
      base::LogFormat::kText, [&said](std::string_view line) { said += line; }, [] { return uint64_t{0}; });
  AwakeWhileLeased awake(&counted, &log);
  for (int i = 0; i < 3; ++i) {
    awake.Tell(true);
    awake.Tell(false);
  }
  EXPECT_EQ(counted.let_go, 0);
  EXPECT_NE(said.find("there is no logind"), std::string::npos);
  EXPECT_EQ(said.find("there is no logind"), said.rfind("there is no logind"));
}

#ifndef __APPLE__
// A systemd-inhibit that writes down how it was called and that it ended.
class LinuxWakefulnessTest : public ::testing::Test {
 protected:
  void Program(const std::string& last_lines) {
    std::ofstream(folder_.File("inhibit")) << "#!/bin/sh\necho \"$@\" > " << folder_.File("called") << "\n" << last_lines;
    std::filesystem::permissions(folder_.File("inhibit"), std::filesystem::perms::owner_all);
  }
  std::string Read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(folder_.File(name)).rdbuf();
    return text.str();
  }
  TempFolder folder_;
};

TEST_F(LinuxWakefulnessTest, HoldsAnIdleLockUntilItLetsGo) {
  Program("cat\necho over > " + folder_.File("over") + "\n");
  const auto wakefulness = LinuxWakefulness(folder_.File("inhibit"));
  ASSERT_TRUE(wakefulness->Hold().ok());
  ASSERT_TRUE(Eventually([this] { return Read("called").find("cat") != std::string::npos; }));
  EXPECT_NE(Read("called").find("--what=idle"), std::string::npos) << Read("called");
  EXPECT_EQ(Read("over"), "");
  wakefulness->LetGo();
  ASSERT_TRUE(wakefulness->Hold().ok()) << "and again";
  EXPECT_TRUE(LinuxWakefulness(folder_.File("inhibit"))->Try().ok());
}

TEST_F(LinuxWakefulnessTest, WhatItStartedEndsWithThePipeAlsoWhereNobodySignalsIt) {
  Program("trap '' TERM\ncat\necho over > " + folder_.File("over") + "\n");
  const auto wakefulness = LinuxWakefulness(folder_.File("inhibit"));
  ASSERT_TRUE(wakefulness->Hold().ok());
  ASSERT_TRUE(Eventually([this] { return Read("called").find("cat") != std::string::npos; }));
  wakefulness->LetGo();
  EXPECT_EQ(Read("over"), "over\n");
}

TEST_F(LinuxWakefulnessTest, WithoutSystemdOrLogindItSaysWhatIsMissing) {
  EXPECT_FALSE(LinuxWakefulness(folder_.File("nothing"))->Hold().ok());
  Program("exit 1\n");
  const auto wakefulness = LinuxWakefulness(folder_.File("inhibit"));
  EXPECT_FALSE(wakefulness->Try().ok());
  const bool refused = Eventually([&wakefulness] {
    const absl::Status held = wakefulness->Hold();
    if (held.ok()) wakefulness->LetGo();
    return !held.ok();
  });
  EXPECT_TRUE(refused) << "what ended by itself held nothing";
  EXPECT_NE(wakefulness->Hold().message().find("logind"), std::string::npos);
}
#endif

}  // namespace
}  // namespace storyfarm::worker
