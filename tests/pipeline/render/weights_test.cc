// Weights that stream or are rounded, through the renderer's door: what streams draws the same bits, whatever else a
// plan says; what is rounded draws nearly the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tests/pipeline/render/render_fixture.h"

namespace storyfarm::render {
namespace {

constexpr char kDemoModel[] = STORYFARM_SOURCE_DIR "/deploy/examples/demo-model";
// Of the tiny model's 666 kB of block weights in fp32: nothing stays, some does, all but a little does.
constexpr uint64_t kResidentBytes[] = {0, 200'000, 650'000};
constexpr uint64_t kRingBytes = 64'000;

// Peak signal to noise over the difference of two pictures of 8 bits.
double Psnr(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  if (a.size() != b.size() || a.empty()) return 0;
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) squares += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return squares == 0 ? INFINITY : 10 * std::log10(255.0 * 255.0 * static_cast<double>(a.size()) / squares);
}

TEST_F(Render, StreamedWeightsDrawTheBitsOfResidentOnes) {
  FramesRequest request = Read(Readers(), WriteBanks());
  const Collector resident = RunOk(request);
  for (const uint64_t bytes : kResidentBytes) {
    request.plan.stream = WeightStream{bytes, kRingBytes};
    const Collector streamed = RunOk(request);
    EXPECT_EQ(streamed.latents, resident.latents) << bytes << " bytes stay";
    EXPECT_EQ(streamed.images, resident.images) << bytes << " bytes stay";
  }
  request.plan.stream.reset();
  EXPECT_EQ(RunOk(request).latents, resident.latents) << "after streaming";
}

TEST_F(Render, StreamedWeightsDrawTheSameBitsWithEveryOtherChoiceOfAPlan) {
  FramesRequest request = Read(Readers(), WriteBanks());
  for (const bool batched : {true, false}) {
    for (const int batch : {1, 4}) {
      request.plan.guidance_batched = batched;
      request.plan.batch = batch;
      request.plan.text_encoders_in_phases = !batched;
      request.plan.vae_tile = batch == 1 ? 8 : 0;
      request.plan.attention_chunk = batch == 1 ? 5 : 0;
      request.plan.stream.reset();
      const Collector resident = RunOk(request);
      request.plan.stream = WeightStream{200'000, kRingBytes};
      EXPECT_EQ(RunOk(request).latents, resident.latents) << "batched " << batched << ", batch " << batch;
    }
  }
}

TEST_F(Render, AnIdentityInLockStepOverStreamedWeightsIsTheOneOverResidentOnes) {
  const auto write = [&](std::optional<WeightStream> stream, const std::string& name) {
    const std::string folder = temp_.File(name);
    std::filesystem::create_directory(folder);
    IdentityRequest request = Identity(0, {Panel(0, "a cat, sitting"), Panel(1, "a cat, running")}, folder);
    request.plan.lock_step = true;
    request.plan.guidance_batched = false;
    request.plan.stream = stream;
    Collector collector;
    const auto done = renderer_->RenderIdentity(request, collector);
    EXPECT_TRUE(done.ok()) << done.status();
    return collector;
  };
  const Collector resident = write(std::nullopt, "resident");
  const Collector streamed = write(WeightStream{0, kRingBytes}, "streamed");
  EXPECT_EQ(streamed.latents, resident.latents);
  const FramesRequest over_resident = Read({Panel(3, "a cat, jumping", {0})}, {resident.Bank(0, 2)});
  const FramesRequest over_streamed = Read({Panel(3, "a cat, jumping", {0})}, {streamed.Bank(0, 2)});
  EXPECT_EQ(RunOk(over_streamed).latents, RunOk(over_resident).latents) << "the banks are the same too";
}

// On the demo model: random weights a few channels wide average no rounding out.
TEST_F(Render, RoundedWeightsDrawNearlyTheSamePicture) {
  FramesRequest request = Read({Panel(5, "a bear in a red shirt, sitting on the beach")}, {});
  request.model_folder = kDemoModel;
  request.settings.steps = 8;
  request.frames[0].width = request.frames[0].height = 128;
  const Collector exact = RunOk(request);
  request.plan.int8_weights = true;
  const Collector rounded = RunOk(request);
  const double psnr = Psnr(exact.images.at(5), rounded.images.at(5));
  std::printf("int8 weights: the demo model's picture keeps %.1f dB\n", psnr);
  EXPECT_GE(psnr, 33);
  EXPECT_NE(exact.latents, rounded.latents);
  request.plan.stream = WeightStream{0, 4'000'000};
  EXPECT_EQ(RunOk(request).latents, exact.latents) << "what streams is exact, beside rounded blocks too";
}

}  // namespace
}  // namespace storyfarm::render
