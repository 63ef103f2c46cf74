// storyfarm-coordinator as a person starts it: with its private Redis, in a folder of its own.
#include <signal.h>
#include <sys/stat.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coordinator/rpc/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/base/env.h"
#include "pipeline/base/places.h"
#include "pipeline/base/subprocess.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::coordinator {
namespace {

using testing::HasSubstr;

class ProgramTest : public testing::Test {
 protected:
  std::unique_ptr<base::Subprocess> Start(const std::vector<std::string>& arguments, const std::string& output) {
    base::SubprocessOptions options;
    options.program = std::string(STORYFARM_BIN_DIR) + "/storyfarm-coordinator";
    options.arguments = arguments;
    options.output_file = Data(output + ".txt");
    auto child = base::Subprocess::Start(options);
    EXPECT_TRUE(child.ok()) << child.status();
    return child.ok() ? *std::move(child) : nullptr;
  }
  std::string OutputOf(const std::string& output) {
    return base::Env::Real().ReadFile(Data(output + ".txt")).value_or("");
  }
  // The port that it wrote, once it serves; 0 where it ended instead.
  int PortOf(const base::Subprocess& child, const std::string& file) {
    int port = 0;
    while (!child.Wait(absl::Milliseconds(20)).has_value()) {
      const std::string text = base::Env::Real().ReadFile(Data(file)).value_or("");
      if (absl::SimpleAtoi(absl::StripAsciiWhitespace(text), &port)) return port;
    }
    return 0;
  }
  // The exit code and what was printed.
  std::pair<int, std::string> Run(const std::vector<std::string>& arguments, const std::string& output) {
    const auto child = Start(arguments, output);
    const auto status = child->Wait(absl::Seconds(30));
    EXPECT_TRUE(status.has_value()) << "it serves, although it should not";
    return {status.has_value() ? status->code : -1, OutputOf(output)};
  }
  std::string Data(const std::string& name) { return folder_.path() + "/" + name; }
  testing_support::TempFolder folder_;
};

TEST_F(ProgramTest, ServesUntilItIsToldToStopAndLeavesNoRedisBehind) {
  const auto child = Start({"--data", Data("d"), "--listen", "127.0.0.1:0", "--port-file", Data("port")}, "out");
  const int port = PortOf(*child, "port");
  ASSERT_GT(port, 0) << OutputOf("out");
  EXPECT_THAT(OutputOf("out"), HasSubstr("storyfarm-coordinator serves on unix:" + Data("d") +
                                         "/coordinator.sock and 127.0.0.1:" + std::to_string(port) +
                                         "; its page is http://127.0.0.1:"));

  const auto [folder_code, folder_text] = Run({"--data", Data("d")}, "second");
  EXPECT_EQ(folder_code, kExitDataFolder);
  EXPECT_THAT(folder_text, HasSubstr("process " + std::to_string(child->pid())));
  const auto [port_code, port_text] =
      Run({"--data", Data("e"), "--listen", "127.0.0.1:" + std::to_string(port)}, "third");
  EXPECT_EQ(port_code, kExitAddress);
  EXPECT_THAT(port_text, HasSubstr(std::to_string(port)));

  child->Signal(SIGTERM);
  const auto ended = child->Wait(absl::Seconds(30));
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->code, kExitOk) << OutputOf("out");
  EXPECT_FALSE(base::Env::Real().Exists(Data("port")));
  EXPECT_FALSE(base::Env::Real().Exists(Data("d") + "/redis/redis.sock"));
}

TEST_F(ProgramTest, StartsAgainAfterItWasKilled) {
  for (int start = 0; start < 2; ++start) {
    const std::string port_file = "port" + std::to_string(start);
    const auto child = Start({"--data", Data("d"), "--listen", "127.0.0.1:0", "--port-file", Data(port_file)}, "out");
    ASSERT_GT(PortOf(*child, port_file), 0) << OutputOf("out");
    if (start == 0) {
      kill(child->pid(), SIGKILL);
      ASSERT_TRUE(child->Wait(absl::Seconds(30)).has_value());
    } else {
      EXPECT_EQ(child->Stop(absl::Seconds(30)).code, kExitOk) << OutputOf("out");
    }
  }
}

TEST_F(ProgramTest, EveryRefusalToStartIsASentenceAndACode) {
  EXPECT_EQ(Run({"--listen", "0.0.0.0:7777", "--data", Data("d")}, "a").first, kExitUsage);
  EXPECT_EQ(Run({"--frobnicate"}, "b").first, kExitUsage);
  EXPECT_EQ(Run({"--webhook", "https://example.org", "--data", Data("d")}, "webhook").first, kExitUsage);
  EXPECT_THAT(OutputOf("webhook"), HasSubstr("https is not spoken"));
  EXPECT_EQ(Run({"--data", Data("d"), "--redis", "unix://" + Data("none.sock")}, "c").first, kExitStore);
  ASSERT_TRUE(base::Env::Real().CreateFolders(Data("new")).ok());
  ASSERT_TRUE(base::Env::Real().WriteFileDurably(Data("new") + "/version", "1000\n").ok());
  const auto [code, text] = Run({"--data", Data("new")}, "d");
  EXPECT_EQ(code, kExitDataFolder);
  EXPECT_THAT(text, HasSubstr("1000"));
  EXPECT_EQ(Run({"--data", "/dev/null/x"}, "e").first, kExitDataFolder);
  const auto [web_code, web_text] = Run({"--data", Data("web"), "--web", "0.0.0.0:0"}, "w");
  EXPECT_EQ(web_code, kExitUsage);
  EXPECT_THAT(web_text, HasSubstr("can be reached from others"));
  ASSERT_TRUE(base::Env::Real().CreateFolders(Data("open")).ok());
  ASSERT_EQ(chmod(Data("open").c_str(), 0755), 0);
  const auto [open_code, open_text] = Run({"--data", Data("open")}, "f");
  EXPECT_EQ(open_code, kExitDataFolder);
  EXPECT_THAT(open_text, HasSubstr("chmod 700"));
}

TEST_F(ProgramTest, ADataFolderWithALongPathHasItsSocketElsewhereAndSaysWhere) {
  const std::string data = Data(std::string(100, 'l'));
  const auto child = Start({"--data", data, "--listen", "127.0.0.1:0", "--port-file", Data("port")}, "out");
  ASSERT_GT(PortOf(*child, "port"), 0) << OutputOf("out");
  EXPECT_THAT(OutputOf("out"), HasSubstr("serves on unix:" + base::CoordinatorSocket(data) + " and"));
  EXPECT_TRUE(base::Env::Real().Exists(base::CoordinatorSocket(data)));
  EXPECT_EQ(child->Stop(absl::Seconds(30)).code, kExitOk) << OutputOf("out");
  EXPECT_FALSE(base::Env::Real().Exists(base::CoordinatorSocket(data)));
}

}  // namespace
}  // namespace storyfarm::coordinator
