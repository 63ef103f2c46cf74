// Whole stories with consistent self-attention, replayed from recorded draws, against an independent implementation in
// Python (tools/golden/consistent_attention.py): story text in, final latents of every panel out.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipeline/base/env.h"
#include "pipeline/model/safetensors.h"
#include "pipeline/render/request.h"
#include "tests/pipeline/render/story_run.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::render {
namespace {

constexpr double kTolerance = 1e-3;
const std::string kData = std::string(STORYFARM_SOURCE_DIR) + "/tests/data/";

std::vector<float> Expected(const model::SafetensorsFile& file, int panel) {
  const model::TensorInfo* info = file.Find("latents/" + std::to_string(panel));
  if (info == nullptr) return {};
  std::vector<float> values(info->elements());
  std::memcpy(values.data(), file.Bytes(*info).data(), info->size_bytes);
  return values;
}

class ConsistentStory : public ::testing::TestWithParam<const char*> {
 protected:
  void ExpectAgreement(bool lock_step);
};

void ConsistentStory::ExpectAgreement(bool lock_step) {
  const std::string folder = kData + "golden/csa/" + GetParam();
  const nlohmann::json cases = nlohmann::json::parse(*base::Env::Real().ReadFile(kData + "golden/csa/cases.json"));
  nlohmann::json about;
  for (const auto& one : cases) {
    if (one["name"] == GetParam()) about = one;
  }
  ASSERT_FALSE(about.is_null());
  const testing_support::TempFolder temp;
  testing_support::StoryRun run;
  run.story_path = folder + "/" + about["story"].get<std::string>();
  run.settings_path = folder + "/settings.json";
  run.model_folder = kData + about["model"].get<std::string>();
  run.replay_path = folder + "/draws.safetensors";
  run.output_folder = temp.path();
  run.plan = [&](render::Plan& plan) { plan.lock_step = lock_step; };
  const auto renderer = Renderer::Create("cpu", 1);
  ASSERT_TRUE(renderer.ok()) << renderer.status();
  const auto panels = testing_support::RenderStory(run, **renderer);
  ASSERT_TRUE(panels.ok()) << panels.status();

  const auto expected = model::SafetensorsFile::Open(folder + "/expected.safetensors");
  ASSERT_TRUE(expected.ok()) << expected.status();
  ASSERT_EQ(panels->size(), (*expected)->tensors().size());
  double largest = 0;
  for (const auto& [panel, rendered] : *panels) {
    const std::vector<float>& actual = rendered.latents.values;
    const std::vector<float> wanted = Expected(**expected, panel);
    ASSERT_EQ(actual.size(), wanted.size()) << "panel " << panel;
    for (size_t i = 0; i < wanted.size(); ++i) {
      largest = std::max(largest, static_cast<double>(std::abs(actual[i] - wanted[i])));
    }
  }
  std::printf("%-46s | %-20s | %-10.2e | %.0e\n",
              (std::string("story ") + GetParam() + (lock_step ? ", lock step" : "")).c_str(), "method.md, Python",
              largest, kTolerance);
  EXPECT_LE(largest, kTolerance);
}

TEST_P(ConsistentStory, AgreesWithTheIndependentImplementation) { ExpectAgreement(/*lock_step=*/false); }
TEST_P(ConsistentStory, AgreesWhereIdentityFramesRunInLockStep) { ExpectAgreement(/*lock_step=*/true); }

INSTANTIATE_TEST_SUITE_P(Cases, ConsistentStory,
                         ::testing::Values("ddim_freeu", "euler_single_identity", "three_identity_frames",
                                           "fraction_gates", "ancestral", "dpmpp_no_guidance", "options_v_prediction",
                                           "masked"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace storyfarm::render
