// One contract for every store. Each store's rig says how to open it, to lose its process, and to cut it off.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/store/memory_store.h"
#include "coordinator/store/private_redis.h"
#include "coordinator/store/redis_store.h"
#include "coordinator/store/store.h"

namespace storyfarm::coordinator {
namespace {

farm::v1::RecordBatch Batch(uint64_t sequence, const std::string& text = "x") {
  farm::v1::RecordBatch batch;
  batch.set_sequence(sequence);
  batch.add_records()->mutable_job_finished()->set_job_id(absl::StrCat(text, sequence));
  return batch;
}

// A disk with one farm on it.
class Rig {
 public:
  virtual ~Rig() = default;
  virtual std::unique_ptr<Store> Open() = 0;
  // The next write arrives, its answer does not.
  virtual std::unique_ptr<Store> OpenThatLosesAnAnswer() = 0;
  // The server dies without warning and may be started again; a store in memory has none.
  virtual void KillServer() = 0;
};

class MemoryRig : public Rig {
 public:
  std::unique_ptr<Store> Open() override { return std::make_unique<MemoryStore>(disk_); }
  std::unique_ptr<Store> OpenThatLosesAnAnswer() override {
    class Losing : public MemoryStore {
     public:
      explicit Losing(std::shared_ptr<MemoryDisk> disk) : MemoryStore(disk), disk_(std::move(disk)) {}
      AppendResult Append(const farm::v1::RecordBatch& batch) override {
        if (!lost_) disk_->Break(MemoryDisk::Accident::kAnswerLost, 1);
        lost_ = true;
        return MemoryStore::Append(batch);
      }

     private:
      std::shared_ptr<MemoryDisk> disk_;
      bool lost_ = false;
    };
    return std::make_unique<Losing>(disk_);
  }
  void KillServer() override {}

 private:
  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
};

class RedisRig : public Rig {
 public:
  RedisRig() {
    char name[] = "/tmp/storyfarm-contract-XXXXXX";
    folder_ = mkdtemp(name);
    PrivateRedisOptions options;
    options.data_folder = folder_;
    auto redis = PrivateRedis::Start(&base::Env::Real(), options);
    EXPECT_TRUE(redis.ok()) << redis.status().ToString();
    if (redis.ok()) redis_ = *std::move(redis);
  }
  ~RedisRig() override {
    redis_.reset();
    std::filesystem::remove_all(folder_);
  }
  std::unique_ptr<Store> Open() override { return std::make_unique<RedisStore>(redis_->Options(), "test"); }

  // Redis holds its answer for longer than the client waits: CLIENT PAUSE does not hold scripts' writes back before
  // they are read, so the server itself is stopped and goes on later.
  std::unique_ptr<Store> OpenThatLosesAnAnswer() override {
    class Losing : public RedisStore {
     public:
      Losing(RedisOptions options, PrivateRedis* redis) : RedisStore(std::move(options), "test"), redis_(redis) {}
      AppendResult Append(const farm::v1::RecordBatch& batch) override {
        if (lost_) return RedisStore::Append(batch);
        lost_ = true;
        kill(redis_->pid(), SIGSTOP);
        AppendResult result = RedisStore::Append(batch);
        kill(redis_->pid(), SIGCONT);
        return result;
      }

     private:
      PrivateRedis* redis_;
      bool lost_ = false;
    };
    RedisOptions options = redis_->Options();
    options.command_ms = 100;
    return std::make_unique<Losing>(options, redis_.get());
  }
  void KillServer() override { kill(redis_->pid(), SIGKILL); }

 private:
  std::string folder_;
  std::unique_ptr<PrivateRedis> redis_;
};

struct Loaded {
  std::vector<uint64_t> sequences;
  std::vector<std::string> texts;
  std::optional<Snapshot> snapshot;
  uint64_t end = 0;
};

Loaded LoadAll(Store& store) {
  Loaded loaded;
  const auto end = store.Load(
      [&](const Snapshot& snapshot) {
        loaded.snapshot = snapshot;
        return absl::OkStatus();
      },
      [&](const farm::v1::RecordBatch& batch) {
        loaded.sequences.push_back(batch.sequence());
        loaded.texts.push_back(batch.records(0).job_finished().job_id());
        return absl::OkStatus();
      });
  EXPECT_TRUE(end.ok()) << end.status().ToString();
  if (end.ok()) loaded.end = end->sequence;
  return loaded;
}

class StoreContract : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string(GetParam()) == "memory") {
      rig_ = std::make_unique<MemoryRig>();
    } else {
      rig_ = std::make_unique<RedisRig>();
    }
  }
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

TEST_P(StoreContract, WhatWasAcknowledgedSurvivesAServerThatIsKilled) {
  auto store = OpenAndTakeOver();
  uint64_t next = 1;
  for (int round = 0; round < 3; ++round) {
    AppendMany(*store, next, next + 20);
    next += 21;
    rig_->KillServer();
    AppendResult result = store->Append(Batch(next));
    for (int tries = 0; tries < 50 && result.outcome == AppendOutcome::kUnknown; ++tries) {
      result = store->Append(Batch(next));
    }
    ASSERT_EQ(result.outcome, AppendOutcome::kAppended) << result.message;
    ++next;
  }
  EXPECT_EQ(LoadAll(*store).end, next - 1);
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreContract, ::testing::Values("memory", "redis"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace storyfarm::coordinator
