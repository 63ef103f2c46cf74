// Runs storyctl in this process, with a folder of its own, and keeps what it printed.
#ifndef STORYFARM_TESTS_TOOLS_STORYCTL_HARNESS_H_
#define STORYFARM_TESTS_TOOLS_STORYCTL_HARNESS_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tools/storyctl/storyctl.h"

namespace storyfarm::storyctl {

class StoryctlTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "storyctl-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  int Run(const std::vector<std::string>& arguments, bool live = false) {
    out_.str("");
    err_.str("");
    const Console console(out_, err_, live, /*colour=*/false, /*columns=*/100);
    return storyctl::Run(arguments, console, base::Env::Real(), [this](const std::string& name) {
      const auto value = variables_.find(name);
      return value == variables_.end() ? std::string() : value->second;
    });
  }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  std::string Write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return Path(name);
  }
  static std::string Read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  nlohmann::json Json() const { return nlohmann::json::parse(out_.str()); }

  std::filesystem::path folder_;
  std::map<std::string, std::string> variables_;  // the environment
  std::ostringstream out_;
  std::ostringstream err_;
};

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TESTS_TOOLS_STORYCTL_HARNESS_H_
