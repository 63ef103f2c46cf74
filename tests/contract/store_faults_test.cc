// The contract while the server fares badly: what was acknowledged is in the log, once, and nothing else but what was
// sent last.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>

#include "tests/contract/rig.h"

namespace storyfarm::coordinator {
namespace {

constexpr int kTries = 200;  // of what must work again in the end

class StoreFaults : public ::testing::TestWithParam<std::tuple<const char*, Fault>> {
 protected:
  void SetUp() override { rig_ = MakeRig(std::get<0>(GetParam()), fault()); }
  Fault fault() const { return std::get<1>(GetParam()); }
  static AppendResult AppendAtLast(Store& store, uint64_t sequence) {
    AppendResult result;
    for (int i = 0; i < kTries && result.outcome != AppendOutcome::kAppended; ++i) {
      result = store.Append(Batch(sequence));
      EXPECT_TRUE(result.outcome == AppendOutcome::kAppended || !result.message.empty());
      if (result.outcome == AppendOutcome::kFenced || result.outcome == AppendOutcome::kGap) break;
    }
    return result;
  }
  std::unique_ptr<Rig> rig_;
};

TEST_P(StoreFaults, WhatWasAcknowledgedStaysAndWhatIsSentAgainIsInTheLogOnce) {
  auto store = rig_->Open("one");
  ASSERT_TRUE(store->TakeOver().ok());
  for (uint64_t i = 1; i <= 20; ++i) ASSERT_EQ(store->Append(Batch(i)).outcome, AppendOutcome::kAppended);
  ASSERT_TRUE(store->SaveSnapshot({5, {"five"}}).ok());

  if (const std::string why = rig_->Inflict(fault()); !why.empty()) GTEST_SKIP() << why;
  // Meanwhile an append is done, refused or of unknown outcome: never fenced, never a gap.
  const AppendResult meanwhile = store->Append(Batch(21));
  EXPECT_NE(meanwhile.outcome, AppendOutcome::kFenced) << meanwhile.message;
  EXPECT_NE(meanwhile.outcome, AppendOutcome::kGap) << meanwhile.message;
  EXPECT_FALSE(absl::IsAborted(store->Beat()));
  EXPECT_FALSE(absl::IsAborted(store->PutArchive("j-1", {})));
  EXPECT_FALSE(absl::IsAborted(store->SaveSnapshot({10, {"ten"}})));
  rig_->Heal(fault());

  const AppendResult at_last = AppendAtLast(*store, 21);
  ASSERT_EQ(at_last.outcome, AppendOutcome::kAppended) << at_last.message;
  ASSERT_EQ(AppendAtLast(*store, 22).outcome, AppendOutcome::kAppended);
  ASSERT_TRUE(store->PutArchive("j-1", {}).ok());
  ASSERT_TRUE(store->SaveSnapshot({12, {"twelve"}}).ok());

  auto again = rig_->Open();
  const Loaded loaded = LoadAll(*again);
  EXPECT_EQ(loaded.end, 22u);
  ASSERT_TRUE(loaded.snapshot.has_value());
  EXPECT_EQ(loaded.snapshot->sequence, 12u);
  ASSERT_EQ(loaded.sequences.size(), 10u);
  for (uint64_t i = 0; i < 10; ++i) EXPECT_EQ(loaded.texts[i], "x" + std::to_string(i + 13));
  EXPECT_TRUE(again->GetArchive("j-1").ok());
}

TEST_P(StoreFaults, WhatRefusesOrHangsNamesItself) {
  auto store = rig_->Open("one");
  ASSERT_TRUE(store->TakeOver().ok());
  if (const std::string why = rig_->Inflict(fault()); !why.empty()) GTEST_SKIP() << why;
  // More than what is left of a disk's last block.
  const farm::v1::RecordBatch batch = Batch(1, std::string(100'000, 'x'));
  const AppendResult meanwhile = store->Append(batch);
  if (fault() == Fault::kOutOfMemory) {
    EXPECT_EQ(meanwhile.outcome, AppendOutcome::kRefused) << meanwhile.message;
  } else if (fault() == Fault::kDiskFull) {
    EXPECT_NE(meanwhile.outcome, AppendOutcome::kAppended);
  }
  rig_->Heal(fault());
  EXPECT_EQ(AppendAtLast(*store, 1).outcome, AppendOutcome::kAppended);
}

TEST_P(StoreFaults, AnotherOneCanTakeOverAfterwardsAndTheFirstIsFenced) {
  auto first = rig_->Open("first");
  ASSERT_TRUE(first->TakeOver().ok());
  ASSERT_EQ(first->Append(Batch(1)).outcome, AppendOutcome::kAppended);
  if (const std::string why = rig_->Inflict(fault()); !why.empty()) GTEST_SKIP() << why;
  const AppendResult unknown = first->Append(Batch(2, "perhaps"));
  rig_->Heal(fault());
  auto second = rig_->Open("second");
  absl::StatusOr<uint64_t> epoch = second->TakeOver();
  for (int i = 0; i < kTries && !epoch.ok(); ++i) epoch = second->TakeOver();
  ASSERT_TRUE(epoch.ok()) << epoch.status().ToString();
  EXPECT_EQ(first->Append(Batch(2, "ghost")).outcome, AppendOutcome::kFenced);
  const uint64_t end = LoadAll(*second).end;
  EXPECT_GE(end, unknown.outcome == AppendOutcome::kAppended ? 2u : 1u);
  ASSERT_EQ(AppendAtLast(*second, end + 1).outcome, AppendOutcome::kAppended);
  const Loaded loaded = LoadAll(*second);
  EXPECT_EQ(loaded.end, end + 1);
  for (const std::string& text : loaded.texts) EXPECT_FALSE(text.starts_with("ghost"));
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreFaults,
                         ::testing::Combine(::testing::Values("memory", "redis"), ::testing::ValuesIn(kFaults)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + NameOf(std::get<1>(info.param));
                         });

TEST(StoreTail, AFileCutAtItsTailLoadsAsAPrefixAndWhoeverKnewMoreIsTold) {
  const auto rig = MakeRig("redis");
  auto store = rig->Open("one");
  ASSERT_TRUE(store->TakeOver().ok());
  for (uint64_t i = 1; i <= 8; ++i) ASSERT_EQ(store->Append(Batch(i)).outcome, AppendOutcome::kAppended);
  ASSERT_TRUE(rig->CutTail());
  AppendResult result;
  for (int i = 0; i < kTries; ++i) {
    result = store->Append(Batch(9));
    if (result.outcome != AppendOutcome::kUnknown) break;
  }
  EXPECT_EQ(result.outcome, AppendOutcome::kGap) << "an acknowledged batch is missing, and nobody was told";
  EXPECT_NE(result.message.find("ends with batch 7"), std::string::npos) << result.message;
  auto next = rig->Open("two");
  ASSERT_TRUE(next->TakeOver().ok());
  const Loaded loaded = LoadAll(*next);
  EXPECT_EQ(loaded.end, 7u);
  EXPECT_EQ(loaded.sequences.size(), 7u);
  EXPECT_EQ(next->Append(Batch(8, "new")).outcome, AppendOutcome::kAppended);
}

}  // namespace
}  // namespace storyfarm::coordinator
