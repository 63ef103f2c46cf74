// The renderer through its one door: pictures do not depend on batches or order; draws replay; what goes wrong is
// typed. Banks: bank_run_test.cc.
#include "pipeline/render/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "pipeline/base/env.h"
#include "pipeline/model/safetensors.h"
#include "tests/pipeline/render/render_fixture.h"

namespace storyfarm::render {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(Render, BatchedReadersEqualSingleOnes) {
  FramesRequest request = Read(Readers(), WriteBanks());
  const Collector single = RunOk(request);
  request.plan.batch = 4;
  const Collector batched = RunOk(request);
  ASSERT_EQ(batched.latents.size(), 4u);
  for (const auto& [panel, latents] : single.latents) {
    EXPECT_LE(LargestDifference(latents, batched.latents.at(panel)), 1e-4) << "panel " << panel;
  }
}

TEST_F(Render, GuidanceInTurnEqualsGuidanceBatched) {
  FramesRequest request = Read(Readers(), WriteBanks());
  const Collector batched = RunOk(request);
  request.plan.guidance_batched = false;
  const Collector in_turn = RunOk(request);
  for (const auto& [panel, latents] : batched.latents) {
    EXPECT_LE(LargestDifference(latents, in_turn.latents.at(panel)), 1e-4) << "panel " << panel;
  }
}

TEST_F(Render, TheOrderOfFramesAndTheirCompanyChangeNothing) {
  const std::vector<BankFiles> banks = WriteBanks();
  std::vector<Frame> frames = Readers();
  const Collector forwards = RunOk(Read(frames, banks));
  std::reverse(frames.begin(), frames.end());
  frames.erase(frames.begin() + 1);
  const Collector backwards = RunOk(Read(frames, banks));
  ASSERT_EQ(backwards.latents.size(), 3u);
  for (const auto& [panel, latents] : backwards.latents) EXPECT_EQ(latents, forwards.latents.at(panel));
}

TEST_F(Render, IdentityStateChangesReadersAndOnlyThem) {
  const std::vector<BankFiles> banks = WriteBanks();
  FramesRequest request = Read(Readers(), banks);
  const Collector on = RunOk(request);
  request.settings.consistency = false;
  const Collector off = RunOk(request);
  EXPECT_GT(LargestDifference(on.latents.at(3), off.latents.at(3)), 1e-3);
  EXPECT_GT(LargestDifference(on.latents.at(4), off.latents.at(4)), 1e-3);
  EXPECT_EQ(on.latents.at(5), off.latents.at(5)) << "a panel without characters is plain";
}

TEST_F(Render, ReplayOfSavedDrawsGivesIdenticalLatents) {
  Draws save;
  save.save_path = temp_.File("draws.safetensors");
  save.story_panels = 7;
  save.story_width = 48;
  save.story_height = 64;
  save.character_names = {"Cat", "Robot"};
  FramesRequest request = Read(Readers(), WriteBanks(save));
  request.draws = save;
  const Collector first = RunOk(request);
  const auto identity = std::exchange(latents_, {});

  // One file for the whole story, whose other seeds must then not matter.
  Draws replay;
  replay.replay_path = save.save_path;
  for (const char* folder : {"bank-0", "bank-1"}) std::filesystem::remove_all(temp_.File(folder));
  FramesRequest again = Read(Readers(), WriteBanks(replay));
  again.draws = replay;
  again.settings.seed = 999;
  for (Frame& frame : again.frames) frame.seed = 999;
  const Collector second = RunOk(again);
  EXPECT_EQ(identity, latents_);
  EXPECT_EQ(first.latents, second.latents);

  const auto file = model::SafetensorsFile::Open(save.save_path);
  ASSERT_TRUE(file.ok()) << file.status();
  for (int panel = 0; panel < 7; ++panel) EXPECT_NE((*file)->Find("noise/" + std::to_string(panel)), nullptr) << panel;
  EXPECT_EQ((*file)->metadata().find("id_panels")->second, R"({"0":[0,1],"1":[2]})");
  EXPECT_EQ((*file)->metadata().find("characters")->second, R"(["Cat","Robot"])");
}

TEST_F(Render, AncestralStepNoiseIsReplayedToo) {
  Draws save;
  save.save_path = temp_.File("draws.safetensors");
  save.story_panels = 7;
  FramesRequest request = Read({Panel(5, "the mountains at night")}, {});
  request.settings.sampler = Sampler::kEulerAncestral;
  request.draws = save;
  const Collector first = RunOk(request);
  request.draws = {.replay_path = save.save_path};
  request.frames[0].seed = 12345;
  EXPECT_EQ(RunOk(request).latents, first.latents);
}

TEST_F(Render, DrawsOfOtherStepsAreRefusedByName) {
  FramesRequest request = Read({Panel(5, "the mountains at night")}, {});
  request.draws.save_path = temp_.File("draws.safetensors");
  RunOk(request);
  request.draws = {.replay_path = temp_.File("draws.safetensors")};
  request.settings.steps = kSteps + 1;
  Collector collector;
  const auto done = renderer_->RenderFrames(request, collector);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(KindOf(done.status()), FailureKind::kBadInput);
  EXPECT_THAT(std::string(done.status().message()), AllOf(HasSubstr("draws.safetensors"), HasSubstr("steps")));
}

TEST_F(Render, NoiseIsItsOwnPerPanelOrShared) {
  FramesRequest request = Read({Panel(3, "the same text"), Panel(4, "the same text")}, {});
  const Collector own = RunOk(request);
  EXPECT_NE(own.latents.at(3), own.latents.at(4));
  request.settings.noise = NoiseKind::kShared;
  const Collector shared = RunOk(request);
  EXPECT_EQ(shared.latents.at(3), shared.latents.at(4));
}

TEST_F(Render, PanelsMayHaveSizesOfTheirOwnBesideABank) {
  std::vector<Frame> frames = Readers();
  frames[0].width = 80;
  frames[0].height = 36;
  FramesRequest request = Read(frames, WriteBanks());
  request.plan.batch = 4;
  const Collector collector = RunOk(request);
  EXPECT_EQ(collector.images.at(3).size(), 3u * 80 * 36);
  EXPECT_EQ(collector.images.at(4).size(), 3u * 48 * 64);
}

TEST_F(Render, ProgressIsToldStepByStepAndAnErrorOfTheObserverStopsTheRun) {
  FramesRequest request = Read({Panel(5, "the mountains at night")}, {});
  Collector all = RunOk(request);
  EXPECT_THAT(all.steps, ElementsAre(1, 2, 3, 4));
  Collector stopping;
  stopping.fail_at_step = 2;
  const auto done = renderer_->RenderFrames(request, stopping);
  EXPECT_EQ(done.status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(stopping.steps, ElementsAre(1, 2));
  EXPECT_TRUE(stopping.latents.empty());
}

TEST_F(Render, ATextBeyondTheContextIsReportedWithWhatIsLost) {
  std::string text = "a cat";
  for (int i = 0; i < 100; ++i) text += ", sitting on the beach";
  const Collector collector = RunOk(Read({Panel(5, text), Panel(6, "a cat")}, {}));
  ASSERT_EQ(collector.warnings.at(5).size(), 1u);
  EXPECT_THAT(collector.warnings.at(5)[0], AllOf(HasSubstr("77 tokens"), HasSubstr("beach")));
  EXPECT_TRUE(collector.warnings.at(6).empty());
}

TEST_F(Render, AHiddenFrameHasLatentsAndNoPicture) {
  Frame hidden = Panel(0, "a cat");
  hidden.hidden = true;
  Collector collector;
  const auto done = renderer_->RenderIdentity(Identity(0, {hidden}, temp_.path()), collector);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_FALSE(collector.latents.at(0).empty());
  EXPECT_TRUE(collector.images.at(0).empty());
}

TEST_F(Render, AWarmModelIsNotLoadedAgain) {
  const FramesRequest request = Read({Panel(5, "the mountains at night")}, {});
  Collector collector;
  const auto cold = renderer_->RenderFrames(request, collector);
  const auto warm = renderer_->RenderFrames(request, collector);
  ASSERT_TRUE(cold.ok() && warm.ok());
  EXPECT_GT(cold->load_ms, 0);
  EXPECT_EQ(warm->load_ms, 0);
  EXPECT_GT(warm->peak_bytes, 0u);
}

TEST_F(Render, TextEncodersInPhasesDrawTheSamePicture) {
  FramesRequest request = Read({Panel(5, "the mountains at night")}, {});
  const Collector resident = RunOk(request);
  request.plan.text_encoders_in_phases = true;
  EXPECT_EQ(RunOk(request).latents, resident.latents);
  EXPECT_EQ(RunOk(request).latents, resident.latents);
}

TEST_F(Render, GuidanceOneDrawsWithoutTheUnconditionalHalf) {
  FramesRequest request = Read({Panel(5, "the mountains at night")}, {});
  request.settings.guidance_scale = 1;
  const Collector without = RunOk(request);
  request.frames[0].negative_prompt = "night";
  EXPECT_EQ(RunOk(request).latents, without.latents) << "a negative prompt has no say without guidance";
}

// --- What goes wrong ---

TEST_F(Render, WeightsThatOverflowAreAnInvalidOutputThatNamesFrameAndStep) {
  const std::string broken = temp_.File("broken");
  std::filesystem::copy(kModel, broken, std::filesystem::copy_options::recursive);
  // conv_out's bias becomes infinite: every prediction with it.
  const std::string weights = broken + "/unet/diffusion_pytorch_model.safetensors";
  uint64_t offset = 0;
  {
    const auto file = model::SafetensorsFile::Open(weights);
    ASSERT_TRUE(file.ok()) << file.status();
    offset = (*file)->Find("conv_out.bias")->offset_bytes;
  }
  std::fstream bytes(weights, std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekp(static_cast<std::streamoff>(offset));
  const float infinity = INFINITY;
  bytes.write(reinterpret_cast<const char*>(&infinity), sizeof(infinity));
  bytes.close();
  FramesRequest request = Read({Panel(5, "the mountains at night")}, {});
  request.model_folder = broken;
  Collector collector;
  const auto done = renderer_->RenderFrames(request, collector);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(KindOf(done.status()), FailureKind::kInvalidOutput);
  EXPECT_THAT(std::string(done.status().message()), AllOf(HasSubstr("panel 5"), HasSubstr("step 0")));
}

TEST_F(Render, AModelThatIsNotThereIsBadInputThatNamesTheFolder) {
  FramesRequest request = Read({Panel(5, "a cat")}, {});
  request.model_folder = temp_.File("nothing");
  Collector collector;
  const auto done = renderer_->RenderFrames(request, collector);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(KindOf(done.status()), FailureKind::kBadInput);
  EXPECT_THAT(std::string(done.status().message()), HasSubstr("nothing"));
}

TEST_F(Render, SizesThatTheModelCannotDrawAreBadInput) {
  for (const int width : {0, -8, 50, 1 << 20}) {
    FramesRequest request = Read({Panel(5, "a cat")}, {});
    request.frames[0].width = width;
    Collector collector;
    EXPECT_EQ(KindOf(renderer_->RenderFrames(request, collector).status()), FailureKind::kBadInput) << width;
  }
}

TEST_F(Render, UnknownDevicesAreNamed) {
  const auto renderer = Renderer::Create("tpu", 0);
  ASSERT_FALSE(renderer.ok());
  EXPECT_THAT(std::string(renderer.status().message()), AllOf(HasSubstr("tpu"), HasSubstr("cuda:0")));
}

// In a process of its own, whose memory is then bounded. Exit code 0: the failure had the right kind and said how much.
[[noreturn]] void RunOutOfMemory() {
  auto renderer = Renderer::Create("cpu", 1);
  Collector collector;
  FramesRequest request = Read({Panel(5, "a cat")}, {});
  if (!renderer.ok() || !(*renderer)->RenderFrames(request, collector).ok()) _exit(2);
  std::ifstream statm("/proc/self/statm");
  uint64_t pages = 0;
  statm >> pages;
  const rlim_t most = pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) + (uint64_t{64} << 20);
  const rlimit limit{most, most};
  if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(3);
  request.frames[0].width = request.frames[0].height = 8192;
  const auto done = (*renderer)->RenderFrames(request, collector);
  if (done.ok()) _exit(4);
  if (KindOf(done.status()) != FailureKind::kOutOfMemory) {
    fprintf(stderr, "%s\n", done.status().ToString().c_str());
    _exit(5);
  }
  _exit(0);
}

#ifndef __APPLE__
TEST(RenderDeathTest, OutOfMemoryIsTyped) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(RunOutOfMemory(), ::testing::ExitedWithCode(0), "");
}
#endif

}  // namespace
}  // namespace storyfarm::render
