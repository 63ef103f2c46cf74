#include "pipeline/identity/bank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "pipeline/base/env.h"
#include "pipeline/device/device.h"
#include "tests/pipeline/identity/bank_fixture.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::identity {
namespace {

using ::testing::HasSubstr;
using testing_support::TempFolder;

constexpr int64_t kChannels = 12;

// Kept tokens of two identity frames, of each half: [k, C].
std::vector<at::Tensor> Kept(int64_t layer, int64_t half, at::ScalarType type = at::kFloat) {
  const auto values = [&](int64_t frame, int64_t tokens) {
    return at::arange(tokens * kChannels, at::kFloat)
        .view({tokens, kChannels})
        .mul(0.37)
        .add(static_cast<double>(layer * 3 + half * 5 + frame * 7))
        .sin()
        .mul(4)
        .to(type);
  };
  return {values(0, 3 + layer), values(1, 5)};
}

TEST(PackPart, HalvesComeBackBitForBitInTheirOwnFormat) {
  for (const at::ScalarType type : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const PackedPart first = PackPart(Kept(2, 0, type), ElementOf(type));
    const PackedPart second = PackPart(Kept(2, 1, type), ElementOf(type));
    ASSERT_EQ(first.shape, second.shape);
    EXPECT_EQ(first.shape.tokens, 10);
    ASSERT_EQ(first.bytes.numel(), static_cast<int64_t>(first.shape.Bytes()));
    const at::Tensor both = UnpackParts(at::cat({first.bytes, second.bytes}), first.shape, 2, type);
    EXPECT_EQ(both.sizes(), (std::vector<int64_t>{2, 10, kChannels}));
    for (int64_t half = 0; half < 2; ++half) EXPECT_TRUE(both[half].equal(at::cat(Kept(2, half, type), 0)));
    EXPECT_TRUE(UnpackParts(second.bytes, second.shape, 1, type)[0].equal(at::cat(Kept(2, 1, type), 0)));
  }
}

TEST(PackPart, ItsOwnFormatIsNotCopied) {
  const PackedPart part = PackPart(Kept(0, 0), BankElement::kFp32);
  EXPECT_EQ(UnpackParts(part.bytes, part.shape, 1, at::kFloat).const_data_ptr(), part.bytes.const_data_ptr());
}

TEST(PackPart, Int8IsWithinHalfAStepOfEachTokensLargestValue) {
  std::vector<at::Tensor> kept = Kept(1, 0);
  kept[0][1].mul_(1000);  // one loud token must not cost the others
  kept[0][2].zero_();
  const PackedPart part = PackPart(kept, BankElement::kInt8);
  const at::Tensor wanted = at::cat(kept, 0), unpacked = UnpackParts(part.bytes, part.shape, 1, at::kFloat)[0];
  const at::Tensor largest = wanted.abs().amax(1, true);
  // Half a step, and what rounding the scale to fp16 adds.
  EXPECT_TRUE(((unpacked - wanted).abs() <= largest / 127 * 0.51 + 1e-5).all().item<bool>());
  EXPECT_TRUE(unpacked[2].eq(0).all().item<bool>());
  const at::Tensor half = UnpackParts(part.bytes, part.shape, 1, at::kHalf);
  EXPECT_EQ(half.scalar_type(), at::kHalf);
  EXPECT_TRUE(half[0].to(at::kFloat).allclose(unpacked, 1e-3, 1e-3));
}

TEST(PackPart, NoTokensAreNoBytes) {
  for (const BankElement element : {BankElement::kFp32, BankElement::kInt8}) {
    const PackedPart part = PackPart({at::empty({0, kChannels})}, element);
    EXPECT_EQ(part.shape.Bytes(), 0u);
    EXPECT_EQ(UnpackParts(part.bytes, part.shape, 2, at::kFloat).sizes(), (std::vector<int64_t>{2, 0, kChannels}));
  }
}

class Reader : public ::testing::Test {
 protected:
  static constexpr int kSteps = 3;

  void SetUp() override {
    auto device = device::Device::Open("cpu", 1);
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    for (int step = 1; step < kSteps; ++step) WriteStep(step, BankElement::kFp32);
  }
  std::string PathOf(int64_t step) { return step == 0 ? "" : temp_.File("bank-" + std::to_string(step)); }
  void WriteStep(int step, BankElement element) {
    auto writer = BankStepWriter::Create(env_, PathOf(step), TestOrigin(), step, 2, element);
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const int64_t layer : {1, 3}) {
      for (const int64_t half : {0, 1}) {
        const PackedPart part = PackPart(Kept(layer + step, half), element);
        const auto* bytes = static_cast<const std::byte*>(part.bytes.const_data_ptr());
        ASSERT_TRUE((*writer)->Append(layer, half, part.shape, {bytes, part.shape.Bytes()}).ok());
      }
    }
    ASSERT_TRUE((*writer)->Finish().ok());
  }
  BankReader::Options Options(bool resident, at::ScalarType dtype = at::kFloat) {
    return {.origin = TestOrigin(),
            .path_of = [this](int64_t step) { return PathOf(step); },
            .dtype = dtype,
            .ring_layers = 2,
            .resident = resident};
  }
  static std::vector<BankLoad> Loads() { return {{1, 1, 0, 2}, {1, 3, 0, 2}, {2, 1, 0, 2}, {2, 3, 0, 2}}; }
  static at::Tensor Wanted(const BankLoad& load) {
    return at::stack({at::cat(Kept(load.layer + load.step, 0)), at::cat(Kept(load.layer + load.step, 1))});
  }

  base::Env& env_ = base::Env::Real();
  const TempFolder temp_;
  std::unique_ptr<device::Device> device_;
};

TEST_F(Reader, GivesTheTokensOfEveryPass) {
  for (const bool resident : {false, true}) {
    BankReader reader(env_, *device_, Options(resident));
    for (int pass = 0; pass < 3; ++pass) {
      reader.BeginPass(Loads());
      for (const BankLoad& load : Loads()) {
        const auto tokens = reader.Tokens(load);
        ASSERT_TRUE(tokens.ok()) << tokens.status();
        EXPECT_TRUE(tokens->equal(Wanted(load)));
        reader.Done();
      }
    }
  }
}

TEST_F(Reader, AResidentBankIsReadOnce) {
  BankReader reader(env_, *device_, Options(true));
  for (int pass = 0; pass < 2; ++pass) {
    reader.BeginPass(Loads());
    for (const BankLoad& load : Loads()) ASSERT_TRUE(reader.Tokens(load).ok());
    for (int step = 1; step < kSteps; ++step) env_.Remove(PathOf(step)).IgnoreError();
  }
}

TEST_F(Reader, ServesAnyFormatFromAnyFile) {
  WriteStep(1, BankElement::kInt8);
  BankReader reader(env_, *device_, Options(false, at::kBFloat16));
  reader.BeginPass(Loads());
  for (const BankLoad& load : Loads()) {
    const auto tokens = reader.Tokens(load);
    ASSERT_TRUE(tokens.ok()) << tokens.status();
    EXPECT_EQ(tokens->scalar_type(), at::kBFloat16);
    EXPECT_TRUE(tokens->to(at::kFloat).allclose(Wanted(load), 0.02, 0.05));
  }
}

TEST_F(Reader, WhatIsNotThereIsAnErrorAndAPassCutShortHurtsNoLaterOne) {
  BankReader reader(env_, *device_, Options(false));
  reader.BeginPass(Loads());
  ASSERT_TRUE(reader.Tokens(Loads()[0]).ok());
  reader.BeginPass({{1, 2, 0, 2}});
  const auto missing = reader.Tokens({1, 2, 0, 2});
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("no entry for step 1, layer 2"));
  reader.BeginPass(Loads());
  for (const BankLoad& load : Loads()) EXPECT_TRUE(reader.Tokens(load)->equal(Wanted(load)));
}

}  // namespace
}  // namespace storyfarm::identity
