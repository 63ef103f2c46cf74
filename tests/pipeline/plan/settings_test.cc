#include "pipeline/plan/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/pipeline/plan/shapes.h"

namespace storyfarm::plan {
namespace {

using farm::v1::Problem;
using farm::v1::RenderSettings;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(Settings, WhatTheStoryLeavesOutGetsTheModelsSizeAndTheDefaults) {
  std::vector<Problem> problems;
  const RenderSettings settings = ResolveSettings(RenderSettings(), SdxlProfile(), &problems);
  EXPECT_THAT(problems, IsEmpty());
  EXPECT_EQ(settings.width(), 1024u);
  EXPECT_EQ(settings.height(), 1024u);
  EXPECT_EQ(settings.steps(), kDefaultSteps);
  EXPECT_EQ(settings.guidance_scale(), kDefaultGuidanceScale);
  EXPECT_EQ(settings.scheduler(), kDefaultScheduler);
  EXPECT_TRUE(settings.has_seed());
  EXPECT_EQ(settings.id_length(), kDefaultIdLength);
  EXPECT_THAT(settings.token_rate(), ElementsAre(kDefaultTokenRate));
  EXPECT_EQ(settings.gate().before(), kDefaultGateBefore);
  EXPECT_EQ(settings.gate().after(), kDefaultGateAfter);
  EXPECT_EQ(settings.gate().switch_fraction(), kDefaultGateSwitchFraction);
  EXPECT_EQ(settings.noise(), kDefaultNoise);
  EXPECT_TRUE(settings.consistency());
  EXPECT_EQ(settings.freeu().s1(), kDefaultFreeUS1);
  EXPECT_EQ(settings.freeu().b2(), kDefaultFreeUB2);
  EXPECT_FALSE(settings.has_negative_prompt()) << "absent means zeros, which differs from an empty text";
}

TEST(Settings, WhatTheStorySaysStays) {
  RenderSettings written;
  written.set_width(512);
  written.set_guidance_scale(0);
  written.set_seed(0);
  written.set_consistency(false);
  written.mutable_gate()->set_switch_step(20);
  written.mutable_freeu()->set_s1(0.9);
  std::vector<Problem> problems;
  const RenderSettings settings = ResolveSettings(written, SdxlProfile(), &problems);
  EXPECT_EQ(settings.width(), 512u);
  EXPECT_EQ(settings.height(), 1024u);
  EXPECT_EQ(settings.guidance_scale(), 0);
  EXPECT_FALSE(settings.consistency());
  EXPECT_EQ(settings.gate().switch_step(), 20u);
  EXPECT_EQ(settings.gate().before(), kDefaultGateBefore);
  EXPECT_EQ(settings.freeu().s1(), 0.9);
  EXPECT_EQ(settings.freeu().s2(), kDefaultFreeUS2);
}

TEST(Settings, FreeUSwitchedOffIsAbsent) {
  RenderSettings written;
  written.mutable_freeu()->set_off(true);
  std::vector<Problem> problems;
  EXPECT_FALSE(ResolveSettings(written, SdxlProfile(), &problems).has_freeu());
}

TEST(Settings, AWrongSizeNamesTheNearestRightOnes) {
  RenderSettings written;
  written.set_width(1000);
  written.set_height(8);
  std::vector<Problem> problems;
  ResolveSettings(written, SdxlProfile(), &problems);
  ASSERT_THAT(problems, SizeIs(2));
  EXPECT_EQ(problems[0].field(), "settings.width");
  EXPECT_THAT(problems[0].message(), HasSubstr("992 and 1024"));
  EXPECT_EQ(problems[1].field(), "settings.height");
  EXPECT_THAT(problems[1].message(), HasSubstr("the smallest is 32"));
}

TEST(Settings, TokenRatesMustMatchTheGridsOfTheModel) {
  RenderSettings written;
  for (const double rate : {0.5, 0.25, 0.5}) written.add_token_rate(rate);
  std::vector<Problem> problems;
  ResolveSettings(written, SdxlProfile(), &problems);
  ASSERT_THAT(problems, SizeIs(1));
  EXPECT_EQ(problems[0].field(), "settings.token_rate");
  EXPECT_THAT(problems[0].message(), HasSubstr("2 grids"));
}

TEST(Settings, ConsistencyNeedsAModelThatCanCarryIt) {
  farm::v1::ModelProfile profile = SdxlProfile();
  for (farm::v1::UnetLevel& level : *profile.mutable_levels()) level.set_csa_layers(0);
  std::vector<Problem> problems;
  ResolveSettings(RenderSettings(), profile, &problems);
  ASSERT_THAT(problems, SizeIs(1));
  EXPECT_EQ(problems[0].field(), "settings.consistency");
}

TEST(Settings, TheDocumentHoldsTheTableAsItIs) {
  std::ifstream file(STORYFARM_SOURCE_DIR "/deploy/docs/settings.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_THAT(text.str(), HasSubstr(SettingsMarkdown())) << "copy the table into deploy/docs/settings.md:\n"
                                                         << SettingsMarkdown();
}

TEST(Settings, TheTableNamesEveryFieldOfTheMessage) {
  const auto* descriptor = RenderSettings::descriptor();
  const std::vector<SettingDescription> table = SettingDescriptions();
  ASSERT_EQ(static_cast<int>(table.size()), descriptor->field_count());
  for (const SettingDescription& row : table) {
    EXPECT_NE(descriptor->FindFieldByName(row.key), nullptr) << row.key;
  }
}

}  // namespace
}  // namespace storyfarm::plan
