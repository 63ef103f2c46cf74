// Requests to the renderer over a tiny model, and what came of them.
#ifndef STORYFARM_TESTS_PIPELINE_RENDER_RENDER_FIXTURE_H_
#define STORYFARM_TESTS_PIPELINE_RENDER_RENDER_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/render/request.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::render {

inline const std::string kModel = std::string(STORYFARM_SOURCE_DIR) + "/tests/data/tiny_sdxl";
inline constexpr int kSteps = 4;
inline constexpr int kNeverFails = -1;

inline Settings TestSettings() {
  Settings settings;
  settings.steps = kSteps;
  settings.seed = 11;
  settings.token_rate = {0.5};
  return settings;
}

inline Frame Panel(int number, const std::string& prompt, std::vector<int> characters = {}) {
  Frame frame;
  frame.panel = number;
  frame.id = "panel-" + std::to_string(number);
  frame.prompt = prompt;
  frame.width = 48;
  frame.height = 64;
  frame.seed = 7;
  frame.characters = std::move(characters);
  return frame;
}

inline CharacterKey Key(uint8_t first) {
  CharacterKey key{};
  key[0] = first;
  return key;
}

inline IdentityRequest Identity(int character, std::vector<Frame> frames, const std::string& folder) {
  IdentityRequest request;
  request.model_folder = kModel;
  request.model_name = "tiny";
  request.settings = TestSettings();
  request.plan.threads = 1;
  request.character = character;
  request.character_key = Key(static_cast<uint8_t>(character));
  request.frames = std::move(frames);
  request.keep_bank = true;
  request.output_folder = folder;
  return request;
}

inline FramesRequest Read(std::vector<Frame> frames, std::vector<BankFiles> banks) {
  FramesRequest request;
  request.model_folder = kModel;
  request.model_name = "tiny";
  request.settings = TestSettings();
  request.plan.threads = 1;
  request.frames = std::move(frames);
  request.banks = std::move(banks);
  return request;
}

class Collector final : public Observer {
 public:
  absl::Status OnStep(const std::vector<const Frame*>&, int step, int) override {
    steps.push_back(step);
    return step == fail_at_step ? absl::CancelledError("stopped by the test") : absl::OkStatus();
  }
  absl::Status OnFrame(FinishedFrame frame) override {
    warnings[frame.frame->panel] = frame.warnings;
    latents[frame.frame->panel] = frame.latents.values;
    images[frame.frame->panel] = frame.image.rgb;
    return absl::OkStatus();
  }
  absl::Status OnBankStep(int step, const std::string& path) override {
    EXPECT_EQ(step, static_cast<int>(bank.size()));
    bank.push_back(path);
    return absl::OkStatus();
  }
  BankFiles Bank(int character, int identity_frames) const {
    return {character, Key(static_cast<uint8_t>(character)), identity_frames, bank};
  }

  int fail_at_step = kNeverFails;
  std::vector<int> steps;
  std::vector<std::string> bank;
  std::map<int, std::vector<float>> latents;
  std::map<int, std::vector<uint8_t>> images;
  std::map<int, std::vector<std::string>> warnings;
};

inline double LargestDifference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size() || a.empty()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, static_cast<double>(std::abs(a[i] - b[i])));
  return largest;
}

class Render : public ::testing::Test {
 protected:
  void SetUp() override {
    auto created = Renderer::Create("cpu", 1);
    ASSERT_TRUE(created.ok()) << created.status();
    renderer_ = *std::move(created);
  }

  // The banks of two characters, of two and of one identity frames; panels 0 to 2.
  std::vector<BankFiles> WriteBanks(const Draws& draws = {}) {
    std::vector<BankFiles> banks;
    const std::vector<std::vector<Frame>> identities = {
        {Panel(0, "a cat, sitting on the beach"), Panel(1, "a cat, running in the snow")},
        {Panel(2, "a robot with a top hat, waving in the city")}};
    for (int character = 0; character < 2; ++character) {
      const std::string folder = temp_.File("bank-" + std::to_string(character));
      std::filesystem::create_directory(folder);
      IdentityRequest request = Identity(character, identities[character], folder);
      request.draws = draws;
      request.plan.bank_dtype = bank_dtype_;
      request.plan.lock_step = lock_step_;
      Collector collector;
      const auto done = renderer_->RenderIdentity(request, collector);
      EXPECT_TRUE(done.ok()) << done.status();
      banks.push_back(collector.Bank(character, static_cast<int>(identities[character].size())));
      latents_.insert(collector.latents.begin(), collector.latents.end());
    }
    return banks;
  }

  std::vector<Frame> Readers() {
    return {Panel(3, "a cat, jumping in the forest", {0}), Panel(4, "a cat and a robot, in a room", {0, 1}),
            Panel(5, "the mountains at night"), Panel(6, "a cat, sleeping in the desert", {0})};
  }

  Collector RunOk(const FramesRequest& request) {
    Collector collector;
    const auto done = renderer_->RenderFrames(request, collector);
    EXPECT_TRUE(done.ok()) << done.status();
    return collector;
  }

  testing_support::TempFolder temp_;
  BankDtype bank_dtype_ = BankDtype::kAsComputed;
  bool lock_step_ = false;
  std::unique_ptr<Renderer> renderer_;
  std::map<int, std::vector<float>> latents_;
};

}  // namespace storyfarm::render

#endif  // STORYFARM_TESTS_PIPELINE_RENDER_RENDER_FIXTURE_H_
