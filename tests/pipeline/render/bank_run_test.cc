// Identity banks through the renderer's door: placements, formats, and files that are not what they should be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/base/env.h"
#include "pipeline/render/request.h"
#include "tests/pipeline/render/render_fixture.h"

namespace storyfarm::render {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(Render, WhereABankLiesAndHowDeepItsRingIsChangesNoByte) {
  FramesRequest request = Read(Readers(), WriteBanks());
  const Collector streamed = RunOk(request);
  for (const int ring_layers : {1, 2, 50}) {
    request.plan.ring_layers = ring_layers;
    EXPECT_EQ(RunOk(request).latents, streamed.latents) << ring_layers;
  }
  request.plan.bank_on_device = true;
  const Collector resident = RunOk(request);
  EXPECT_EQ(streamed.latents, resident.latents);
  EXPECT_EQ(streamed.images, resident.images);
}

TEST_F(Render, AnInt8BankIsAQuarterOfTheBytesAndDrawsNearlyTheSame) {
  const std::vector<BankFiles> banks = WriteBanks();
  const Collector wide = RunOk(Read(Readers(), banks));
  const uintmax_t wide_bytes = std::filesystem::file_size(banks[0].steps.back());
  for (const char* folder : {"bank-0", "bank-1"}) std::filesystem::remove_all(temp_.File(folder));
  bank_dtype_ = BankDtype::kInt8;
  const std::vector<BankFiles> narrow = WriteBanks();
  const Collector int8 = RunOk(Read(Readers(), narrow));
  // Scales and tables weigh much beside 32 channels.
  EXPECT_LT(std::filesystem::file_size(narrow[0].steps.back()), wide_bytes / 2);
  for (const int panel : {3, 4, 6}) {
    EXPECT_NE(int8.latents.at(panel), wide.latents.at(panel));
    EXPECT_LE(LargestDifference(int8.latents.at(panel), wide.latents.at(panel)), 0.05) << panel;
  }
}

TEST_F(Render, FramesInLockStepAreTheFramesDenoisedTogether) {
  const std::vector<BankFiles> together = WriteBanks();
  const Collector readers = RunOk(Read(Readers(), together));
  const auto latents = std::exchange(latents_, {});
  for (const char* folder : {"bank-0", "bank-1"}) std::filesystem::remove_all(temp_.File(folder));
  lock_step_ = true;
  const std::vector<BankFiles> in_lock_step = WriteBanks();
  const Collector readers_after = RunOk(Read(Readers(), in_lock_step));
  ASSERT_EQ(latents.size(), latents_.size());
  for (const auto& [panel, values] : latents) {
    EXPECT_LE(LargestDifference(values, latents_.at(panel)), 1e-4) << "identity frame " << panel;
  }
  for (const auto& [panel, values] : readers.latents) {
    EXPECT_LE(LargestDifference(values, readers_after.latents.at(panel)), 2e-4) << "panel " << panel;
  }
}

TEST_F(Render, NothingIsWrittenForABankThatNobodyReads) {
  IdentityRequest request = Identity(0, {Panel(0, "a cat")}, temp_.path());
  request.keep_bank = false;
  Collector collector;
  ASSERT_TRUE(renderer_->RenderIdentity(request, collector).ok());
  EXPECT_TRUE(collector.bank.empty());
  EXPECT_TRUE(std::filesystem::is_empty(temp_.path()));
}

TEST_F(Render, AMissingBankIsBadInput) {
  Collector collector;
  const auto done = renderer_->RenderFrames(Read({Panel(3, "a cat", {0})}, {}), collector);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(KindOf(done.status()), FailureKind::kBadInput);
  EXPECT_THAT(std::string(done.status().message()), AllOf(HasSubstr("panel 3"), HasSubstr("character 0")));
}

TEST_F(Render, ABankOfAnotherCharacterStepOrGuidanceIsRefused) {
  std::vector<BankFiles> banks = WriteBanks();
  const auto message = [&](const FramesRequest& request) {
    Collector collector;
    const auto done = renderer_->RenderFrames(request, collector);
    EXPECT_EQ(KindOf(done.status()), FailureKind::kBadInput);
    return std::string(done.status().message());
  };
  const std::vector<Frame> frames = {Panel(3, "a cat", {0})};
  std::vector<BankFiles> other = {banks[0]};
  other[0].character_key = Key(9);
  EXPECT_THAT(message(Read(frames, other)), HasSubstr("character_key"));
  other = {banks[0]};
  std::swap(other[0].steps[2], other[0].steps[3]);
  EXPECT_THAT(message(Read(frames, other)), HasSubstr("it is step 3, this run needs step 2"));
  other = {banks[0]};
  other[0].steps[2].clear();
  EXPECT_THAT(message(Read(frames, other)), HasSubstr("no entry for step 2"));
  FramesRequest unguided = Read(frames, {banks[0]});
  unguided.settings.guidance_scale = 1;
  EXPECT_THAT(message(unguided), HasSubstr("guidance"));
  FramesRequest elsewhere = Read(frames, {banks[0]});
  elsewhere.model_name = "tinier";
  EXPECT_THAT(message(elsewhere), HasSubstr("another model than `tinier`"));
  FramesRequest gated = Read(frames, {banks[0]});
  gated.settings.gate.after = 0.2;
  EXPECT_THAT(message(gated), HasSubstr("gate 0.3 0.2"));
  FramesRequest shorter = Read(frames, {banks[0]});
  shorter.settings.steps = 3;
  EXPECT_THAT(message(shorter), HasSubstr("4 steps"));
}

TEST_F(Render, ABankFileThatIsGoneCutOffOrDamagedIsABlobUnavailableAndNoPicture) {
  std::vector<BankFiles> banks = WriteBanks();
  const std::string path = banks[0].steps[3], whole = *base::Env::Real().ReadFile(path);
  std::string damaged = whole;
  damaged[300] ^= 1;
  for (const std::string& bytes : {std::string(), whole.substr(0, whole.size() - 50), damaged}) {
    std::filesystem::remove(path);
    if (!bytes.empty()) {
      ASSERT_TRUE(base::Env::Real().WriteFileDurably(path, bytes).ok());
    }
    Collector collector;
    const auto done = renderer_->RenderFrames(Read({Panel(3, "a cat", {0})}, {banks[0]}), collector);
    EXPECT_EQ(KindOf(done.status()), FailureKind::kBlobUnavailable) << done.status();
    EXPECT_THAT(std::string(done.status().message()), AllOf(HasSubstr("bank-0003.bank"), HasSubstr("step 3")));
    EXPECT_THAT(collector.steps, ElementsAre(1, 2, 3)) << "the steps before it";
    EXPECT_TRUE(collector.latents.empty());
  }
}

}  // namespace
}  // namespace storyfarm::render
