#include "pipeline/plan/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <variant>

#include "pipeline/plan/plan.h"
#include "tests/pipeline/plan/shapes.h"

namespace storyfarm::plan {
namespace {

using farm::v1::JobSpec;
using farm::v1::MemoryPlan;
using farm::v1::Refusal;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

farm::v1::ModelManifest Model(const std::string& encoder = "encoder", const std::string& unet = "unet") {
  farm::v1::ModelManifest model = Manifest(SdxlProfile());
  const auto add = [&model](const std::string& path, const std::string& digest) {
    farm::v1::ModelFile& file = *model.add_files();
    file.set_path(path);
    file.mutable_blob()->set_digest(digest);
  };
  add("text_encoder/model.safetensors", encoder);
  add("text_encoder_2/model.safetensors", "second");
  add("tokenizer/merges.txt", "merges");
  add("unet/diffusion_pytorch_model.safetensors", unet);
  return model;
}

// Panel 0 serves A, panels 1 to `panels` read it.
JobSpec Job(int panels, const farm::v1::ModelManifest& model = Model()) {
  farm::v1::Story story = StoryOf(1, std::vector<std::vector<uint32_t>>(static_cast<size_t>(panels) + 1, {0}));
  story.mutable_settings()->set_negative_prompt("blurry");
  Expansion expansion = ExpandStory(story, model);
  EXPECT_TRUE(expansion.ok());
  AddTextTasks(&expansion.job);
  return expansion.job;
}

TEST(TextTasks, IdentityFramesComeFirstAndTheOthersInTasksOfAFew) {
  const JobSpec job = Job(kFewestFramesATextTask + 1);
  ASSERT_THAT(job.texts(), SizeIs(3));
  EXPECT_THAT(job.texts(0).identities(), ElementsAre(0));
  EXPECT_THAT(job.texts(0).panels(), SizeIs(0));
  EXPECT_THAT(job.texts(1).panels(), SizeIs(kFewestFramesATextTask));
  EXPECT_THAT(job.texts(2).panels(), ElementsAre(kFewestFramesATextTask + 1));
  EXPECT_THAT(TextsOf(job, job.texts(0)), ElementsAre("prompt 0", "blurry"));
  EXPECT_THAT(TextsOf(job, job.texts(2)), ElementsAre("prompt 9", "blurry")) << "each task has all that its frames read";
  EXPECT_THAT(TextTasksFor(job, farm::v1::TASK_FRAME, {8, 9}), ElementsAre(1, 2));
  EXPECT_THAT(TextTasksFor(job, farm::v1::TASK_IDENTITY, {0}), ElementsAre(0));
}

TEST(TextTasks, GrowWithTheStoryUpToALimit) {
  EXPECT_THAT(Job(kTextTasksAStory * 20).texts(1).panels(), SizeIs(20));
  EXPECT_THAT(Job(kTextTasksAStory * kFramesATextTask + 100).texts(1).panels(), SizeIs(kFramesATextTask));
}

TEST(TextTasks, WithoutGuidanceNoNegativePromptIsEncoded) {
  JobSpec job = Job(1);
  job.mutable_story()->mutable_settings()->set_guidance_scale(1);
  EXPECT_THAT(TextsOf(job, job.texts(0)), ElementsAre("prompt 0"));
}

TEST(TextTasks, TheKeyIsOfEncodersTextsAndFormatsAndNothingElse) {
  const JobSpec job = Job(1);
  const std::string key = job.texts(0).key();
  EXPECT_EQ(key.size(), 32u);
  EXPECT_EQ(Job(1, Model("encoder", "another UNet")).texts(0).key(), key);
  EXPECT_NE(Job(1, Model("another encoder")).texts(0).key(), key);
  const auto with = [&job](auto change) {
    JobSpec other = job;
    change(*other.mutable_story());
    return TextKey(other, other.texts(0));
  };
  EXPECT_EQ(with([](farm::v1::Story& story) { story.mutable_settings()->set_seed(3); }), key);
  EXPECT_NE(with([](farm::v1::Story& story) { story.mutable_settings()->set_dtype(farm::v1::FP16); }), key);
  EXPECT_NE(with([](farm::v1::Story& story) { story.mutable_settings()->set_reproducible(true); }), key);
  EXPECT_NE(with([](farm::v1::Story& story) { story.mutable_settings()->mutable_style()->set_prompt("ink, {prompt}"); }),
            key);
}

TEST(TextTasks, WorkNamesTheFilesOfItsPromptsAndIsRefusedWithoutThem) {
  const JobSpec job = Job(kFewestFramesATextTask + 1);
  WorkInputs inputs;
  inputs.banks.emplace_back();
  EXPECT_EQ(WorkFor(job, farm::v1::TASK_IDENTITY, {0}, {}, inputs).status().code(),
            absl::StatusCode::kFailedPrecondition);
  for (uint32_t task = 0; task < 3; ++task) inputs.texts[task].set_digest(std::string(32, static_cast<char>('a' + task)));
  const auto identity = WorkFor(job, farm::v1::TASK_IDENTITY, {0}, {}, inputs);
  ASSERT_TRUE(identity.ok()) << identity.status();
  ASSERT_THAT(identity->identity().text().files(), SizeIs(1));
  EXPECT_EQ(identity->identity().text().files(0).digest(), std::string(32, 'a'));
  EXPECT_EQ(identity->identity().text().encoders(), EncodersDigest(job.model()));
  const auto frames = WorkFor(job, farm::v1::TASK_FRAME, {8, 9}, {}, inputs);
  ASSERT_TRUE(frames.ok()) << frames.status();
  EXPECT_THAT(frames->frames().text().files(), SizeIs(2));
  const auto text = WorkFor(job, farm::v1::TASK_TEXT, {2}, {}, inputs);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(text->text().texts(), ElementsAre("prompt 9", "blurry"));
  EXPECT_FALSE(WorkFor(job, farm::v1::TASK_TEXT, {3}, {}, inputs).ok());
}

TEST(TextTasks, AFrameWhosePromptsComeFromAFileNeedsNoRoomForTextEncoders) {
  farm::v1::GroupShape shape = Group(1024, 1, 0);
  shape.set_dtype(farm::v1::FP16);
  const auto device = Device(farm::v1::CUDA, 80'000'000'000, 700);
  const auto alone = std::get<MemoryPlan>(PlanGroup(SdxlProfile(), device, shape));
  shape.set_text_from_file(true);
  const auto from_file = std::get<MemoryPlan>(PlanGroup(SdxlProfile(), device, shape));
  EXPECT_EQ(alone.predicted_peak_bytes() - from_file.predicted_peak_bytes(),
            2 * SdxlProfile().text_encoder_parameters());
  EXPECT_FALSE(from_file.text_encoders_in_phases());
}

TEST(TextTasks, EncodersPushOutTheUNetOnlyWhereTheyMustAndAreRefusedWhereTheyDoNotFit) {
  farm::v1::GroupShape shape = *TextShapeOf(Job(1), {0});
  EXPECT_EQ(shape.texts(), 2u);
  shape.set_dtype(farm::v1::FP16);
  const auto plan_in = [&shape](uint64_t bytes) {
    return PlanGroup(SdxlProfile(), DeviceOfBudget(farm::v1::CUDA, bytes, 100), shape);
  };
  const auto roomy = std::get<MemoryPlan>(plan_in(20'000'000'000));
  EXPECT_FALSE(roomy.text_encoders_in_phases());
  EXPECT_EQ(roomy.dtype(), farm::v1::FP16);
  const auto tight = std::get<MemoryPlan>(plan_in(3'000'000'000));
  EXPECT_TRUE(tight.text_encoders_in_phases());
  EXPECT_LE(tight.predicted_peak_bytes(), 3'000'000'000u);
  EXPECT_GT(tight.predicted_seconds(), roomy.predicted_seconds()) << "the UNet comes back";
  const auto refusal = std::get<Refusal>(plan_in(1'500'000'000));
  EXPECT_EQ(refusal.needed_bytes(), tight.predicted_peak_bytes());
  EXPECT_THAT(refusal.reason(), HasSubstr("text encoders"));
}

}  // namespace
}  // namespace storyfarm::plan
