// Nothing secret is in a log or on a command line: a farm over TLS, with a worker and a person who joined by code and a
// browser that is logged in, all of whose secrets are then looked for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "tests/e2e/farm.h"
#include "tests/e2e/visitor.h"

namespace storyfarm::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

std::string Read(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The lines of every private key below a folder, each of which tells a part of it.
std::set<std::string> KeyLines(const std::string& folder) {
  std::set<std::string> lines;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".key") continue;
    std::istringstream text(Read(entry.path()));
    for (std::string line; std::getline(text, line);) {
      if (line.size() > 20 && line.find("-----") == std::string::npos) lines.insert(line);
    }
  }
  return lines;
}

// The command lines of all processes that name something of this farm's folder.
std::string CommandLines(const std::string& folder) {
  std::string lines;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::string line = Read(entry.path() / "cmdline");
    if (line.find(folder) != std::string::npos) lines += line + "\n";
  }
  return lines;
}

TEST(FarmSecretsTest, AreInNoLogAndOnNoCommandLine) {
  if (!fs::exists("/proc/self/cmdline")) GTEST_SKIP() << "this system shows no command lines in /proc";
  FarmOptions options;
  options.null_engine = true;
  options.page = true;
  options.coordinator_arguments = {"--network", "127.0.0.1:0"};
  Farm farm(options);
  farm.StartCoordinator();
  farm.AddTinyModel();
  std::set<std::string> secrets;
  const auto invite = [&](const std::vector<std::string>& words) {
    const std::string code = json::parse(farm.MustStoryctl(words))["code"];
    secrets.insert(code);
    return code;
  };
  farm.StartJoiningWorker("attic", invite({"worker", "add", "--json"}));
  const std::string used = invite({"user", "add", "ann", "--role", "viewer", "--json"});
  EXPECT_EQ(farm.StoryctlOf("ann", {"join"}, used).exit_code, 0);
  const std::string link = json::parse(farm.MustStoryctl({"web", "--json"}))["url"];
  secrets.insert(link.substr(link.find('#') + 1));
  Visitor visitor(link);
  const std::string cookie = visitor.headers().find("Cookie")->second;
  secrets.insert(cookie.substr(cookie.find('=') + 1));
  secrets.insert(Read(farm.File("farm/web/metrics-token")));
  farm.WaitForEnd(farm.SubmitStory(2, 1));
  // What goes wrong is not told with more than that.
  EXPECT_NE(farm.StoryctlOf("bob", {"join"}, used).exit_code, 0);
  EXPECT_EQ(visitor.Get("/api/jobs", {{"Cookie", cookie + "0"}}).first, 401);
  secrets.merge(KeyLines(farm.File("")));
  EXPECT_GT(secrets.size(), 8u) << "three codes and tokens, and the keys of four";

  const std::string told = farm.Log("farm") + farm.Log("attic") + farm.MustStoryctl({"logs", "--json"});
  const std::string lines = CommandLines(farm.File(""));
  EXPECT_THAT(told, HasSubstr("member joined"));
  EXPECT_THAT(lines, HasSubstr("storyfarm-coordinator"));
  for (const std::string& secret : secrets) {
    ASSERT_GT(secret.size(), 20u);
    EXPECT_THAT(told, Not(HasSubstr(secret)));
    EXPECT_THAT(lines, Not(HasSubstr(secret)));
  }
}

}  // namespace
}  // namespace storyfarm::e2e
