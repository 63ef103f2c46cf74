#include "pipeline/identity/bank_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/pipeline/identity/bank_fixture.h"
#include "tests/support/faulty_env.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::identity {
namespace {

using ::testing::HasSubstr;
using testing_support::FaultyEnv;
using testing_support::TempFolder;

constexpr uint64_t kQueueParts = 4;

ComputedPart Part(int step, int64_t layer, int64_t half) {
  const PartShape shape = TestShape(layer);
  const auto bytes = std::make_shared<const std::vector<std::byte>>(PartBytes(shape, step, layer, half));
  return {layer, half, shape, [bytes] { return std::span<const std::byte>(*bytes); }};
}

TEST(BankWriter, StepsComeOutWholeAndInOrderAndAnEmptyOneHasNoFile) {
  const TempFolder temp;
  BankWriter writer(base::Env::Real(), temp.path(), TestOrigin(), 2, BankElement::kFp16, kQueueParts);
  std::vector<BankWriter::StoredStep> stored;
  const auto take = [&](bool wait) {
    const auto taken = writer.TakeStored(wait);
    ASSERT_TRUE(taken.ok()) << taken.status();
    stored.insert(stored.end(), taken->begin(), taken->end());
  };
  for (int step = 0; step < 5; ++step) {
    for (int64_t layer = 0; step != 2 && layer < 6; ++layer) {
      for (const int64_t half : {0, 1}) ASSERT_TRUE(writer.Put(Part(step, layer, half)).ok());
    }
    ASSERT_TRUE(writer.EndStep().ok());
    take(false);
  }
  take(true);
  ASSERT_EQ(stored.size(), 5u);
  for (int step = 0; step < 5; ++step) {
    EXPECT_EQ(stored[step].step, step);
    if (step == 2) {
      EXPECT_TRUE(stored[step].path.empty());
      continue;
    }
    const auto file = BankStepFile::Open(base::Env::Real(), stored[step].path, TestOrigin(), step);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ((*file)->parts().size(), 12u);
    std::vector<std::byte> bytes((*file)->parts()[7].shape.Bytes());
    ASSERT_TRUE((*file)->Read((*file)->parts()[7], bytes).ok());
    EXPECT_EQ(bytes, PartBytes(TestShape(3), step, 3, 1));
  }
}

TEST(BankWriter, AnUnfinishedStepLeavesNoTrace) {
  const TempFolder temp;
  {
    BankWriter writer(base::Env::Real(), temp.path(), TestOrigin(), 2, BankElement::kFp16, kQueueParts);
    for (int64_t layer = 0; layer < 6; ++layer) ASSERT_TRUE(writer.Put(Part(0, layer, 0)).ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(temp.path()));
}

TEST(BankWriter, AFullDiskIsToldByEveryLaterCallAndKeepsTheStepsBeforeIt) {
  const TempFolder temp;
  FaultyEnv disk(base::Env::Real());
  BankWriter writer(disk, temp.path(), TestOrigin(), 2, BankElement::kFp16, kQueueParts);
  ASSERT_TRUE(writer.Put(Part(0, 0, 0)).ok());
  ASSERT_TRUE(writer.EndStep().ok());
  ASSERT_TRUE(writer.TakeStored(true).ok());
  disk.writable_bytes = 200;
  absl::Status status = absl::OkStatus();
  // A file has room for neither; the queue is bounded, so the error comes back before long.
  constexpr uint64_t kMost = 2 * kQueueParts + kBankWriters + 1;  // parts of one size, or smaller ones after it
  for (uint64_t i = 0; i < kMost && status.ok(); ++i) status = writer.Put(Part(1, static_cast<int64_t>(i), 0));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("bank-0001.bank"));
  EXPECT_EQ(writer.EndStep(), status);
  EXPECT_EQ(writer.TakeStored(true).status(), status);
  EXPECT_TRUE(base::Env::Real().Exists(temp.File("bank-0000.bank")));
  EXPECT_FALSE(base::Env::Real().Exists(temp.File("bank-0001.bank")));
}

}  // namespace
}  // namespace storyfarm::identity
