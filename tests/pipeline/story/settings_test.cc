#include "pipeline/story/settings.h"

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "tests/pipeline/story/problems.h"

namespace storyfarm::story {
namespace {

using farm::v1::RenderSettings;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

ParsedSettings Parse(std::string_view text, const RenderSettings& base = {}) {
  return ParseSettings(text, "settings.yaml", base);
}

RenderSettings Read(std::string_view text, const RenderSettings& base = {}) {
  const ParsedSettings parsed = Parse(text, base);
  EXPECT_THAT(parsed.problems, IsEmpty()) << text << "\n" << Printed(parsed.problems);
  return parsed.settings;
}

TEST(Settings, EveryKeyIsRead) {
  const RenderSettings settings = Read(R"(
width: 768
height: 512
steps: 35
guidance_scale: 5.5
scheduler: dpmpp_2m_karras
scheduler_config: {timestep_spacing: trailing, beta_end: 0.012, clip_sample: off, nested: [1, "2", null]}
seed: 2047
id_length: 4
token_rate: [0.5, 0.25]
gate: {before: 0.3, after: 0.1, switch: 20}
noise: shared
consistency: on
freeu: {s1: 0.6, s2: 0.4, b1: 1.1, b2: 1.2}
style: {prompt: "comic {prompt}, ink", negative: photo}
negative_prompt: blurry,  ugly
dtype: fp16
reproducible: true
int8_weights: true
)");
  EXPECT_EQ(settings.width(), 768U);
  EXPECT_EQ(settings.height(), 512U);
  EXPECT_EQ(settings.steps(), 35U);
  EXPECT_EQ(settings.guidance_scale(), 5.5);
  EXPECT_EQ(settings.scheduler(), farm::v1::DPMPP_2M_KARRAS);
  EXPECT_EQ(settings.scheduler_config(),
            R"({"beta_end":0.012,"clip_sample":false,"nested":[1,"2",null],"timestep_spacing":"trailing"})");
  EXPECT_EQ(settings.seed(), 2047U);
  EXPECT_EQ(settings.id_length(), 4U);
  EXPECT_THAT(settings.token_rate(), ElementsAre(0.5, 0.25));
  EXPECT_EQ(settings.gate().before(), 0.3);
  EXPECT_EQ(settings.gate().after(), 0.1);
  EXPECT_EQ(settings.gate().switch_step(), 20U);
  EXPECT_EQ(settings.noise(), farm::v1::NOISE_SHARED);
  EXPECT_TRUE(settings.has_consistency());
  EXPECT_TRUE(settings.consistency());
  EXPECT_EQ(settings.freeu().b2(), 1.2);
  EXPECT_EQ(settings.style().prompt(), "comic {prompt}, ink");
  EXPECT_EQ(settings.style().negative(), "photo");
  EXPECT_EQ(settings.negative_prompt(), "blurry, ugly");
  EXPECT_EQ(settings.dtype(), farm::v1::FP16);
  EXPECT_TRUE(settings.reproducible());
  EXPECT_TRUE(settings.int8_weights());
}

TEST(Settings, WhatIsNotGivenStaysUnset) {
  EXPECT_EQ(Read("").ByteSizeLong(), 0U);
  EXPECT_EQ(Read("{}").ByteSizeLong(), 0U);
  const RenderSettings settings = Read("{\"gate\": {\"before\": 0.5}}");
  EXPECT_FALSE(settings.gate().has_after());
  EXPECT_EQ(settings.gate().at_case(), farm::v1::Gate::AT_NOT_SET);
  EXPECT_FALSE(settings.has_consistency());
  EXPECT_FALSE(settings.has_seed());
}

TEST(Settings, AGateSwitchIsAStepWhenWholeAndAShareWhenNot) {
  EXPECT_EQ(Read("gate: {switch: 0.4}").gate().switch_fraction(), 0.4);
  EXPECT_EQ(Read("gate: {switch: 1}").gate().switch_step(), 1U);
  EXPECT_EQ(Read("gate: {switch: 1.0}").gate().switch_fraction(), 1.0);
  EXPECT_EQ(Read("gate: 0.4").gate().switch_fraction(), 0.4);
  EXPECT_EQ(Read("gate: 20").gate().switch_step(), 20U);
  EXPECT_THAT(Parse("gate: 1.5").problems, ElementsAre(ProblemAt(1, 7, "from 0 to 1")));
  EXPECT_THAT(Parse("gate: often").problems, ElementsAre(ProblemAt(1, 7, "a share of the steps")));
}

TEST(Settings, SwitchesAreReadInEverySpelling) {
  for (const char* on : {"on", "On", "true", "yes", "\"on\""}) {
    EXPECT_TRUE(Read(std::string("consistency: ") + on).consistency()) << on;
    EXPECT_TRUE(Read(std::string("freeu: ") + on).has_freeu()) << on;
    EXPECT_FALSE(Read(std::string("freeu: ") + on).freeu().off()) << on;
  }
  for (const char* off : {"off", "OFF", "false", "no", "\"off\""}) {
    EXPECT_TRUE(Read(std::string("consistency: ") + off).has_consistency()) << off;
    EXPECT_FALSE(Read(std::string("consistency: ") + off).consistency()) << off;
    EXPECT_TRUE(Read(std::string("freeu: ") + off).freeu().off()) << off;
  }
  EXPECT_THAT(Parse("consistency: 1").problems, ElementsAre(ProblemAt(1, 14, "must be on or off")));
}

TEST(Settings, NumberFormatsHaveBothOfTheirNames) {
  EXPECT_EQ(Read("dtype: float32").dtype(), farm::v1::FP32);
  EXPECT_EQ(Read("dtype: fp32").dtype(), farm::v1::FP32);
  EXPECT_EQ(Read("dtype: float16").dtype(), farm::v1::FP16);
  EXPECT_EQ(Read("dtype: bf16").dtype(), farm::v1::BF16);
  EXPECT_EQ(Read("dtype: auto").dtype(), farm::v1::DTYPE_UNSPECIFIED);
}

TEST(Settings, AStyleIsATemplateAndATextWithoutPlaceFollowsThePrompt) {
  EXPECT_EQ(Read("style: 'a drawing of {prompt}'").style().prompt(), "a drawing of {prompt}");
  EXPECT_EQ(Read("style: in ink").style().prompt(), "{prompt}, in ink");
  EXPECT_EQ(Read("style: ''").style().prompt(), "");
  EXPECT_THAT(Parse("style: 'a {text}'").problems, ElementsAre(ProblemAt(1, 8, "{prompt}")));
}

TEST(Settings, KeysReplaceThoseOfTheBaseAndNullTakesThemAway) {
  RenderSettings base =
      Read("{steps: 20, seed: 7, negative_prompt: bad, gate: {before: 0.5, after: 0.2}, token_rate: [0.1, 0.2]}");
  const RenderSettings over = Read("{seed: 8, negative_prompt: null, gate: {after: 0.9}, token_rate: 1}", base);
  EXPECT_EQ(over.steps(), 20U);
  EXPECT_EQ(over.seed(), 8U);
  EXPECT_FALSE(over.has_negative_prompt());
  EXPECT_FALSE(over.gate().has_before());
  EXPECT_EQ(over.gate().after(), 0.9);
  EXPECT_THAT(over.token_rate(), ElementsAre(1.0));
  EXPECT_TRUE(Read("negative_prompt: ''").has_negative_prompt()) << "an empty text is encoded, an absent one is zeros";
}

TEST(Settings, NumbersOutOfRangeAndWrongTypesAreAllReported) {
  const ParsedSettings parsed = Parse(R"(width: 100000
height: -8
steps: 2.5
guidance_scale: .nan
seed: 18446744073709551616
id_length: 5
token_rate: [0.5, 0, 1.1]
noise: loud
scheduler_config: none
freeu: {s3: 1}
widht: 3
)");
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(1, 8, "from 8 to 4096, not '100000'"))) << Printed(parsed.problems);
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(2, 9, "not '-8'")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(3, 8, "not '2.5'")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(4, 17, "not '.nan'")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(5, 7, "not '18446744073709551616'")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(6, 12, "from 1 to 4")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(7, 19, "above 0")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(7, 22, "at most 1")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(8, 8, "one of shared, panel")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(9, 19, "must be a map")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(10, 9, "no key")));
  EXPECT_THAT(parsed.problems, Contains(ProblemAt(11, 1, "did you mean 'width'?")));
  EXPECT_EQ(parsed.problems.size(), 12U) << Printed(parsed.problems);
}

TEST(Settings, JsonFilesAreRead) {
  const RenderSettings settings =
      Read("{\"steps\": 20, \"freeu\": \"off\", \"gate\": {\"switch\": 4e-1}, \"style\": \"{prompt} \\u263a\"}");
  EXPECT_EQ(settings.steps(), 20U);
  EXPECT_TRUE(settings.freeu().off());
  EXPECT_EQ(settings.gate().switch_fraction(), 0.4);
  EXPECT_EQ(settings.style().prompt(), "{prompt} ☺");
}

}  // namespace
}  // namespace storyfarm::story
