// One contract for every store. Each store's rig says how to open it, to lose its process, and to cut it off.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/contract/rig.h"

namespace storyfarm::coordinator {
namespace {

class StoreContract : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { rig_ = MakeRig(GetParam()); }
  std::unique_ptr<Store> OpenAndTakeOver() {
    std::unique_ptr<Store> store = rig_->Open();
    const auto epoch = store->TakeOver();
    EXPECT_TRUE(epoch.ok()) << epoch.status().ToString();
    return store;
  }
  static void AppendMany(Store& store, uint64_t first, uint64_t last) {
    for (uint64_t i = first; i <= last; ++i) {
      const AppendResult result = store.Append(Batch(i));
      ASSERT_EQ(result.outcome, AppendOutcome::kAppended) << result.message;
    }
  }
  std::unique_ptr<Rig> rig_;
};

TEST_P(StoreContract, AnEmptyStoreLoadsNothing) {
  auto store = OpenAndTakeOver();
  const Loaded loaded = LoadAll(*store);
  EXPECT_EQ(loaded.end, 0u);
  EXPECT_TRUE(loaded.sequences.empty());
  EXPECT_FALSE(loaded.snapshot.has_value());
}

TEST_P(StoreContract, WhatWasAppendedComesBackInOrder) {
  auto store = OpenAndTakeOver();
  AppendMany(*store, 1, 100);
  auto again = rig_->Open();
  const Loaded loaded = LoadAll(*again);
  ASSERT_EQ(loaded.sequences.size(), 100u);
  for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(loaded.texts[i], absl::StrCat("x", i + 1));
  EXPECT_EQ(loaded.end, 100u);
}

TEST_P(StoreContract, NothingIsAppendedWithoutATakeOver) {
  auto store = rig_->Open();
  EXPECT_EQ(store->Append(Batch(1)).outcome, AppendOutcome::kFenced);
  EXPECT_EQ(LoadAll(*store).end, 0u);
}

TEST_P(StoreContract, EachTakeOverGetsAHigherEpochAndFencesTheOnesBefore) {
  auto first = rig_->Open();
  auto second = rig_->Open();
  const auto one = first->TakeOver();
  AppendMany(*first, 1, 3);
  const auto two = second->TakeOver();
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_GT(*two, *one);
  EXPECT_EQ(first->Append(Batch(4, "ghost")).outcome, AppendOutcome::kFenced);
  EXPECT_TRUE(absl::IsAborted(first->SaveSnapshot({3, {"state"}})));
  EXPECT_TRUE(absl::IsAborted(first->PutArchive("j-1", {})));
  AppendMany(*second, 4, 4);
  const Loaded loaded = LoadAll(*second);
  EXPECT_EQ(loaded.texts.back(), "x4");
  EXPECT_FALSE(loaded.snapshot.has_value());
  EXPECT_TRUE(absl::IsNotFound(second->GetArchive("j-1").status()));
}

TEST_P(StoreContract, AResentBatchIsInTheLogOnce) {
  auto store = OpenAndTakeOver();
  AppendMany(*store, 1, 2);
  EXPECT_EQ(store->Append(Batch(2)).outcome, AppendOutcome::kAppended);
  EXPECT_EQ(store->Append(Batch(1)).outcome, AppendOutcome::kAppended);
  EXPECT_EQ(LoadAll(*store).sequences, (std::vector<uint64_t>{1, 2}));
}

TEST_P(StoreContract, AnUnansweredAppendIsSentAgainSafely) {
  auto store = rig_->OpenThatLosesAnAnswer();
  ASSERT_TRUE(store->TakeOver().ok());
  AppendResult result = store->Append(Batch(1));
  EXPECT_EQ(result.outcome, AppendOutcome::kUnknown);
  EXPECT_FALSE(result.message.empty());
  for (int tries = 0; tries < 50 && result.outcome == AppendOutcome::kUnknown; ++tries)
    result = store->Append(Batch(1));
  EXPECT_EQ(result.outcome, AppendOutcome::kAppended) << result.message;
  AppendMany(*store, 2, 2);
  EXPECT_EQ(LoadAll(*store).sequences, (std::vector<uint64_t>{1, 2}));
}

TEST_P(StoreContract, AGapIsRefusedAndWritesNothing) {
  auto store = OpenAndTakeOver();
  AppendMany(*store, 1, 2);
  EXPECT_EQ(store->Append(Batch(4)).outcome, AppendOutcome::kGap);
  EXPECT_EQ(LoadAll(*store).end, 2u);
  AppendMany(*store, 3, 3);
}

TEST_P(StoreContract, BigBatchesComeBackWhole) {
  auto store = OpenAndTakeOver();
  std::vector<std::string> texts;
  for (uint64_t i = 1; i <= 4; ++i) {
    texts.push_back(std::string(6 << 20, static_cast<char>('a' + i)));
    farm::v1::RecordBatch batch;
    batch.set_sequence(i);
    batch.add_records()->mutable_job_finished()->set_job_id(texts.back());
    ASSERT_EQ(store->Append(batch).outcome, AppendOutcome::kAppended);
  }
  auto again = rig_->Open();
  EXPECT_TRUE(LoadAll(*again).texts == texts);
}

TEST_P(StoreContract, BytesOfAllKindsSurvive) {
  auto store = OpenAndTakeOver();
  std::string all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<char>(i));
  farm::v1::RecordBatch batch;
  batch.set_sequence(1);
  batch.add_records()->mutable_frame_finished()->mutable_result()->mutable_image()->set_digest(all + "\r\n\0");
  ASSERT_EQ(store->Append(batch).outcome, AppendOutcome::kAppended);
  std::string seen;
  ASSERT_TRUE(store
                  ->Load([](const Snapshot&) { return absl::OkStatus(); },
                         [&](const farm::v1::RecordBatch& loaded) {
                           seen = loaded.SerializeAsString();
                           return absl::OkStatus();
                         })
                  .ok());
  EXPECT_EQ(seen, batch.SerializeAsString());
}

TEST_P(StoreContract, ASnapshotStandsForTheLogsBeginning) {
  auto store = OpenAndTakeOver();
  AppendMany(*store, 1, 10);
  const Snapshot snapshot{7, {"one", std::string(3 << 20, 'z'), ""}};
  ASSERT_TRUE(store->SaveSnapshot(snapshot).ok());
  auto again = rig_->Open();
  const Loaded loaded = LoadAll(*again);
  ASSERT_TRUE(loaded.snapshot.has_value());
  EXPECT_EQ(loaded.snapshot->sequence, 7u);
  EXPECT_TRUE(loaded.snapshot->pieces == snapshot.pieces);
  EXPECT_EQ(loaded.sequences, (std::vector<uint64_t>{8, 9, 10}));
  EXPECT_EQ(loaded.end, 10u);
}

TEST_P(StoreContract, ASnapshotOfAllLeavesAnEmptyLogThatGoesOn) {
  auto store = OpenAndTakeOver();
  AppendMany(*store, 1, 5);
  ASSERT_TRUE(store->SaveSnapshot({5, {"five"}}).ok());
  EXPECT_EQ(LoadAll(*store).end, 5u);
  AppendMany(*store, 6, 6);
  ASSERT_TRUE(store->SaveSnapshot({6, {"six"}}).ok());
  ASSERT_TRUE(store->SaveSnapshot({5, {"late"}}).ok());  // an older one never replaces a newer one
  const Loaded loaded = LoadAll(*store);
  ASSERT_TRUE(loaded.snapshot.has_value());
  EXPECT_EQ(loaded.snapshot->pieces, std::vector<std::string>{"six"});
  EXPECT_TRUE(loaded.sequences.empty());
}

TEST_P(StoreContract, ASnapshotOfWhatIsNotInTheLogIsRefused) {
  auto store = OpenAndTakeOver();
  AppendMany(*store, 1, 2);
  EXPECT_TRUE(absl::IsInvalidArgument(store->SaveSnapshot({3, {"future"}})));
  EXPECT_FALSE(LoadAll(*store).snapshot.has_value());
}

TEST_P(StoreContract, ArchivedJobsAreFoundByTheirId) {
  auto store = OpenAndTakeOver();
  farm::v1::JobArchive body;
  body.mutable_status()->set_title("A title");
  ASSERT_TRUE(store->PutArchive("j-1", body).ok());
  body.mutable_status()->set_title("Another");
  ASSERT_TRUE(store->PutArchive("j-1", body).ok());
  auto again = rig_->Open();
  const auto found = again->GetArchive("j-1");
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->status().title(), "Another");
  EXPECT_TRUE(absl::IsNotFound(again->GetArchive("j-2").status()));
}

TEST_P(StoreContract, ARemovedArchiveIsGoneAndSoIsOneThatNeverWas) {
  const auto store = OpenAndTakeOver();
  ASSERT_TRUE(store->PutArchive("j-1", {}).ok());
  ASSERT_TRUE(store->PutArchive("j-2", {}).ok());
  ASSERT_TRUE(store->RemoveArchive("j-1").ok());
  EXPECT_TRUE(store->RemoveArchive("j-1").ok());
  EXPECT_TRUE(absl::IsNotFound(store->GetArchive("j-1").status()));
  EXPECT_TRUE(store->GetArchive("j-2").ok());
  const auto second = OpenAndTakeOver();
  EXPECT_TRUE(absl::IsAborted(store->RemoveArchive("j-2")));
  EXPECT_TRUE(second->GetArchive("j-2").ok());
}

TEST_P(StoreContract, AnErrorOfACallbackEndsTheLoad) {
  auto store = OpenAndTakeOver();
  AppendMany(*store, 1, 3);
  int seen = 0;
  const auto end = store->Load([](const Snapshot&) { return absl::OkStatus(); },
                               [&](const farm::v1::RecordBatch&) {
                                 ++seen;
                                 return absl::DataLossError("no");
                               });
  EXPECT_TRUE(absl::IsDataLoss(end.status()));
  EXPECT_EQ(seen, 1);
}

TEST_P(StoreContract, ASnapshotIsWrittenBetweenAppendsAndCountsOnlyFromTheSwitchOn) {
  auto store = OpenAndTakeOver();
  AppendMany(*store, 1, 4);
  ASSERT_TRUE(store->BeginSnapshot(3).ok());
  AppendMany(*store, 5, 5);
  ASSERT_TRUE(store->PutSnapshotPiece(3, 0, "first").ok());
  AppendMany(*store, 6, 6);
  EXPECT_FALSE(LoadAll(*store).snapshot.has_value());
  EXPECT_TRUE(absl::IsInvalidArgument(store->SwitchSnapshot(3, 2))) << "a piece is missing";
  ASSERT_TRUE(store->PutSnapshotPiece(3, 1, "second").ok());
  ASSERT_TRUE(store->SwitchSnapshot(3, 2).ok());
  ASSERT_TRUE(store->SwitchSnapshot(3, 2).ok()) << "sent again after an answer was lost";
  EXPECT_TRUE(absl::IsAlreadyExists(store->BeginSnapshot(3)));
  const Loaded loaded = LoadAll(*store);
  ASSERT_TRUE(loaded.snapshot.has_value());
  EXPECT_EQ(loaded.snapshot->pieces, (std::vector<std::string>{"first", "second"}));
  EXPECT_EQ(loaded.sequences, (std::vector<uint64_t>{4, 5, 6}));
}

TEST_P(StoreContract, ASnapshotThatWasGivenUpLeavesNothingInTheNext) {
  auto store = OpenAndTakeOver();
  AppendMany(*store, 1, 4);
  ASSERT_TRUE(store->BeginSnapshot(2).ok());
  ASSERT_TRUE(store->PutSnapshotPiece(2, 0, "old").ok());
  ASSERT_TRUE(store->PutSnapshotPiece(2, 1, "old").ok());
  ASSERT_TRUE(store->SaveSnapshot({2, {"new"}}).ok());
  EXPECT_EQ(LoadAll(*store).snapshot->pieces, std::vector<std::string>{"new"});
}

TEST_P(StoreContract, AnEmptyStoreTakesAnySnapshotAndGoesOnAfterIt) {
  auto store = OpenAndTakeOver();
  ASSERT_TRUE(store->SaveSnapshot({41, {"from a backup"}}).ok());
  EXPECT_EQ(store->Append(Batch(41)).outcome, AppendOutcome::kAppended) << "it stands for batch 41, too";
  EXPECT_EQ(store->Append(Batch(43)).outcome, AppendOutcome::kGap);
  AppendMany(*store, 42, 42);
  EXPECT_TRUE(absl::IsInvalidArgument(store->SaveSnapshot({50, {"another"}}))) << "it is not empty any more";
  auto again = rig_->Open();
  const Loaded loaded = LoadAll(*again);
  EXPECT_EQ(loaded.snapshot->pieces, std::vector<std::string>{"from a backup"});
  EXPECT_EQ(loaded.end, 42u);
}

TEST_P(StoreContract, WhoWaitsSeesWhoLeadsAndEverySignOfLife) {
  auto leader = rig_->Open("the first");
  auto standby = rig_->Open("the second");
  auto seen = standby->Watch();
  ASSERT_TRUE(seen.ok());
  EXPECT_EQ(seen->epoch, 0u);
  EXPECT_EQ(seen->leader, "");
  ASSERT_TRUE(leader->TakeOver().ok());
  const auto before = standby->Watch();
  EXPECT_EQ(before->leader, "the first");
  EXPECT_EQ(before->epoch, 1u);
  ASSERT_TRUE(leader->Beat().ok());
  const auto beaten = standby->Watch();
  EXPECT_NE(beaten->beats, before->beats);
  AppendMany(*leader, 1, 1);
  EXPECT_NE(standby->Watch()->head, beaten->head);
  ASSERT_TRUE(leader->LetGo().ok());
  EXPECT_EQ(standby->Watch()->leader, "");
  AppendMany(*leader, 2, 2);  // nobody else took over yet
}

TEST_P(StoreContract, OfTwoThatWaitOnlyOneTakesOver) {
  auto first = rig_->Open("first");
  auto second = rig_->Open("second");
  auto third = rig_->Open("third");
  ASSERT_TRUE(first->TakeOver(0).ok());
  const uint64_t seen = second->Watch()->epoch;
  ASSERT_TRUE(second->TakeOver(seen).ok());
  EXPECT_TRUE(absl::IsAborted(third->TakeOver(seen).status()));
  EXPECT_EQ(third->Append(Batch(1)).outcome, AppendOutcome::kFenced);
  EXPECT_TRUE(absl::IsAborted(first->Beat()));
  EXPECT_TRUE(absl::IsAborted(first->LetGo()));
  EXPECT_EQ(third->Watch()->leader, "second");
  AppendMany(*second, 1, 1);
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreContract, ::testing::Values("memory", "redis"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace storyfarm::coordinator
