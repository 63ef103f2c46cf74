#include "tests/e2e/fault_rig.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string_view>

namespace storyfarm::e2e {
namespace {

int g_rounds = 3;

// One farm for each size of picture, for all tests.
class Untouched : public testing::Environment {
 public:
  static Farm& Of(int image_bytes) {
    std::unique_ptr<Farm>& farm = farms_[image_bytes];
    if (farm == nullptr) {
      farm = std::make_unique<Farm>(NullEngines(0, image_bytes));
      farm->StartCoordinator();
      farm->StartWorker("one");
      farm->AddTinyModel();
    }
    return *farm;
  }
  void TearDown() override { farms_.clear(); }

 private:
  static std::map<int, std::unique_ptr<Farm>> farms_;
};
std::map<int, std::unique_ptr<Farm>> Untouched::farms_;

}  // namespace

int Rounds() { return g_rounds; }

FarmOptions NullEngines(int step_ms, int image_bytes) {
  FarmOptions options;
  options.null_engine = true;
  options.step_ms = step_ms;
  options.image_bytes = image_bytes;
  return options;
}

Files Reference(int seed, int image_bytes) {
  Farm& farm = Untouched::Of(image_bytes);
  const std::string job = farm.SubmitStory(kPanels, seed);
  farm.WaitForEnd(job);
  return farm.Fetch(job);
}

std::set<int> Accepted(const nlohmann::json& status) {
  std::set<int> panels;
  if (!status.is_object()) return panels;
  for (const nlohmann::json& task : status["tasks"]) {
    const std::string name = task["task"];
    if (name.find("/frame/") != std::string::npos && task["state"] == "done") {
      panels.insert(std::stoi(name.substr(name.rfind('/') + 1)));
    }
  }
  return panels;
}

std::map<int, int> RendersByPanel(const Farm& farm) {
  std::map<int, int> renders;
  for (const auto& [line, times] : farm.Renders()) renders[std::stoi(line)] += times;
  return renders;
}

void ExpectNoWaste(Farm& farm, const std::string& job, bool nothing_was_lost) {
  const nlohmann::json status = farm.Status(job);
  int identity_attempts = 0;
  std::map<int, int> attempts;
  for (const nlohmann::json& task : status["tasks"]) {
    const std::string name = task["task"];
    const int times = task["attempts"];
    if (name.find("/identity/") != std::string::npos) identity_attempts = std::max(identity_attempts, times);
    if (name.find("/frame/") != std::string::npos) attempts[std::stoi(name.substr(name.rfind('/') + 1))] = times;
  }
  for (const auto& [panel, times] : RendersByPanel(farm)) {
    EXPECT_LE(times, nothing_was_lost ? 1 : std::max(identity_attempts, attempts[panel])) << "panel " << panel;
  }
}

void WaitForFrames(Farm& farm, const std::string& job, int frames) {
  farm.WaitFor(job, "frames", [frames](const nlohmann::json& status) { return status["frames_done"] >= frames; });
}

}  // namespace storyfarm::e2e

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::string_view(argv[i]) == "--rounds") storyfarm::e2e::g_rounds = std::atoi(argv[i + 1]);
  }
  testing::AddGlobalTestEnvironment(new storyfarm::e2e::Untouched);  // gtest's own from here on
  return RUN_ALL_TESTS();
}
