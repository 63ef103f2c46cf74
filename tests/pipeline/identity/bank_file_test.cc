#include "pipeline/identity/bank_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/pipeline/identity/bank_fixture.h"
#include "tests/support/faulty_env.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::identity {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing_support::FaultyEnv;
using testing_support::TempFolder;

class BankFile : public ::testing::Test {
 protected:
  absl::StatusOr<std::shared_ptr<const BankStepFile>> Open(int step = 4, const BankOrigin& origin = TestOrigin()) {
    return BankStepFile::Open(env_, path_, origin, step);
  }
  std::string Bytes() { return *env_.ReadFile(path_); }
  void Overwrite(const std::string& bytes) {
    const auto file = env_.OpenForWriting(path_, base::WriteMode::kTruncate);
    ASSERT_TRUE(file.ok() && (*file)->Append(bytes).ok());
  }

  base::Env& env_ = base::Env::Real();
  const TempFolder temp_;
  const std::string path_ = temp_.File("bank-0004.bank");
};

TEST_F(BankFile, APartComesBackByteForByte) {
  WriteTestStep(env_, path_, 4, {0, 2, 7});
  const auto file = Open();
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->halves(), 2);
  EXPECT_EQ((*file)->parts().size(), 6u);
  for (const int64_t layer : {0, 2, 7}) {
    for (const int64_t half : {0, 1}) {
      const BankPart* part = (*file)->Find(layer, half);
      ASSERT_NE(part, nullptr);
      EXPECT_EQ(part->shape, TestShape(layer));
      EXPECT_EQ(part->offset_bytes % kBankAlignmentBytes, 0u);
      std::vector<std::byte> bytes(part->shape.Bytes());
      ASSERT_TRUE((*file)->Read(*part, bytes).ok());
      EXPECT_EQ(bytes, PartBytes(part->shape, 4, layer, half));
    }
  }
  EXPECT_EQ((*file)->Find(1, 0), nullptr);
}

TEST_F(BankFile, TheSameBankHasTheSameBytes) {
  WriteTestStep(env_, path_, 4, {0, 2});
  const std::string first = Bytes();
  WriteTestStep(env_, path_, 4, {0, 2});
  EXPECT_EQ(Bytes(), first);
}

TEST_F(BankFile, WhatBelongsElsewhereIsNamedWithWhatToDo) {
  WriteTestStep(env_, path_, 4, {0});
  const auto says = [&](const BankOrigin& origin, int step, const char* what) {
    const auto file = Open(step, origin);
    ASSERT_FALSE(file.ok()) << what;
    EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(file.status().message()),
                AllOf(HasSubstr("bank-0004.bank"), HasSubstr(what), HasSubstr("render")));
  };
  says(TestOrigin(), 5, "it is step 4, this run needs step 5");
  BankOrigin origin = TestOrigin();
  origin.model = "abd";
  says(origin, 4, "another model");
  origin = TestOrigin();
  origin.settings = "steps 5";
  says(origin, 4, "other settings than this run's: steps 5");
  origin = TestOrigin();
  origin.identity_frames = 3;
  says(origin, 4, "2 identity frames");
  origin = TestOrigin();
  origin.character_key[0] = 1;
  says(origin, 4, "character_key");
}

TEST_F(BankFile, AMissingFileIsNotFound) {
  const auto file = Open();
  EXPECT_EQ(file.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(file.status().message()), AllOf(HasSubstr("step 4"), HasSubstr("Fetch it again")));
}

TEST_F(BankFile, EveryLengthThatIsCutOffIsDataLoss) {
  WriteTestStep(env_, path_, 4, {0, 1});
  const std::string whole = Bytes();
  for (size_t size = 0; size < whole.size(); ++size) {
    Overwrite(whole.substr(0, size));
    const auto file = Open();
    ASSERT_FALSE(file.ok()) << size;
    EXPECT_EQ(file.status().code(), absl::StatusCode::kDataLoss) << size;
  }
  Overwrite(whole + "x");
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kDataLoss);
}

// Opening reads header, table and trailer; a part is checked when it is read.
TEST_F(BankFile, EveryFlippedByteIsFoundAndAPartsDamageNamesItsLayer) {
  WriteTestStep(env_, path_, 4, {0, 1});
  const std::string whole = Bytes();
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] ^= 0x10;
    Overwrite(damaged);
    absl::Status status = absl::OkStatus();
    const auto file = Open();
    if (!file.ok()) {
      status = file.status();
    } else {
      for (const BankPart& part : (*file)->parts()) {
        std::vector<std::byte> bytes(part.shape.Bytes());
        const absl::Status read = (*file)->Read(part, bytes);
        if (read.ok()) continue;
        EXPECT_THAT(std::string(read.message()), HasSubstr("checksum of layer " + std::to_string(part.layer)));
        EXPECT_TRUE(at >= part.offset_bytes && at < part.offset_bytes + part.shape.Bytes()) << at;
        status = read;
      }
    }
    ASSERT_FALSE(status.ok()) << "byte " << at;
    // The version decides how the rest is read, so it is looked at first.
    const bool version = at >= 8 && at < 12;
    EXPECT_EQ(status.code(), version ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kDataLoss) << at;
  }
}

TEST_F(BankFile, NothingStandsThereUntilItIsWhole) {
  {
    const auto writer = BankStepWriter::Create(env_, path_, TestOrigin(), 4, 2, BankElement::kFp16);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->Append(0, 0, TestShape(0), PartBytes(TestShape(0), 4, 0, 0)).ok());
    EXPECT_FALSE(env_.Exists(path_));
  }
  EXPECT_TRUE(std::filesystem::is_empty(temp_.path()));
}

TEST_F(BankFile, AFullDiskIsToldAndLeavesNothing) {
  WriteTestStep(env_, path_, 4, {0});
  const uint64_t needed = Bytes().size();
  ASSERT_TRUE(env_.Remove(path_).ok());
  for (uint64_t room = 0; room < needed; room += 16) {
    FaultyEnv disk(env_);
    disk.writable_bytes = room;
    absl::Status status = absl::OkStatus();
    if (auto writer = BankStepWriter::Create(disk, path_, TestOrigin(), 4, 2, BankElement::kFp16); !writer.ok()) {
      status = writer.status();
    } else {
      for (int64_t half = 0; half < 2 && status.ok(); ++half) {
        status = (*writer)->Append(0, half, TestShape(0), PartBytes(TestShape(0), 4, 0, half));
      }
      if (status.ok()) status = (*writer)->Finish();
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << room;
    EXPECT_TRUE(std::filesystem::is_empty(temp_.path())) << room;
  }
}

// ---- Sizes

struct Layers {
  int64_t count, channels, tokens;  // tokens kept of all identity frames
};
// The file's bytes over those of its elements alone.
double Overhead(const std::vector<Layers>& model, BankElement element) {
  double elements = 0, file = kBankHeaderBytes + kBankTrailerBytes;
  for (const Layers& layers : model) {
    const PartShape shape{.tokens = layers.tokens, .channels = layers.channels, .element = element};
    const double parts = 2.0 * static_cast<double>(layers.count);
    elements +=
        parts * static_cast<double>(layers.tokens * layers.channels) * static_cast<double>(shape.ElementBytes());
    file += parts * static_cast<double>(shape.Bytes() + kBankTableEntryBytes);
  }
  return file / elements - 1;
}

TEST(BankFileSize, SdxlsIsItsElementsAndAtMostHalfAPercentScalesIncluded) {
  // 1024 x 1024: 30 layers of 32 x 32 tokens, 6 of 64 x 64; rate 0.5; 1 and 4 identity frames; every gate open, and the
  // fewest that a step after the first may have open with any probability worth a thought.
  for (const int64_t frames : {1, 4}) {
    for (const int64_t sixths : {1, 6}) {
      const std::vector<Layers> sdxl = {{5 * sixths, 1280, frames * 512}, {sixths, 640, frames * 2048}};
      for (const BankElement element : {BankElement::kFp32, BankElement::kFp16}) {
        EXPECT_LT(Overhead(sdxl, element), 0.0005);
      }
      EXPECT_LT(Overhead(sdxl, BankElement::kInt8), 0.005);
      std::printf("SDXL, %d identity frames, %d of 36 layers: fp16 + %.4f %%, int8 + %.3f %%\n",
                  static_cast<int>(frames), static_cast<int>(6 * sixths), 100 * Overhead(sdxl, BankElement::kFp16),
                  100 * Overhead(sdxl, BankElement::kInt8));
    }
  }
}

TEST(BankFileSize, TheDemoModelsTablesAndScalesWeighMore) {
  // 128 x 128: 3 layers of 8 x 8 tokens and 3 of 16 x 16, 96 channels: a step of 184 KB in fp32 pays 640 bytes.
  const std::vector<Layers> demo = {{3, 96, 2 * 32}, {3, 96, 2 * 128}};
  std::printf("demo, 2 identity frames: fp32 + %.3f %%, int8 + %.2f %%\n", 100 * Overhead(demo, BankElement::kFp32),
              100 * Overhead(demo, BankElement::kInt8));
  EXPECT_LT(Overhead(demo, BankElement::kFp32), 0.005);
  EXPECT_LT(Overhead(demo, BankElement::kInt8), 0.03) << "2 bytes of scale on 96 of a token are 2.1 % by themselves";
}

TEST_F(BankFile, AFileHasTheBytesThatTheArithmeticSays) {
  WriteTestStep(env_, path_, 4, {0, 1});
  uint64_t bytes = kBankHeaderBytes + kBankTrailerBytes;
  for (const int64_t layer : {0, 1}) bytes += 2 * (TestShape(layer).Bytes() + kBankTableEntryBytes);
  EXPECT_EQ(Bytes().size(), bytes);
}

}  // namespace
}  // namespace storyfarm::identity
