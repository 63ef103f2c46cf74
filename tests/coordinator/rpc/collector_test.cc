// Blobs that nothing needs, over a real folder, the real loop and a clock that the test sets.
#include "coordinator/rpc/collector.h"

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "pipeline/base/digest.h"
#include "tests/coordinator/rpc/test_farm.h"
#include "tests/coordinator/rpc/unheard_outputs.h"
#include "tests/support/faulty_env.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::coordinator {
namespace {

class CollectorTest : public testing::Test {
 protected:
  CollectorTest()
      : disk_(std::make_shared<MemoryDisk>()),
        log_(
            base::LogFormat::kText, [](std::string_view) {}, [] { return uint64_t{0}; }) {
    env_.clock_ms = 1'000'000;
    Start();
  }
  ~CollectorTest() override { Kill(); }

  void Start() {
    store_ = std::make_unique<MemoryStore>(disk_);
    auto loop = Loop::Load(options_, {&loop_env_, &log_, store_.get(), [this] { return ++random_; }});
    ASSERT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    BlobStoreOptions options;
    options.condemned = loop_->CondemnedBlobs();
    auto blobs = BlobStore::Open(env_, folder_.File("blobs"), options);
    ASSERT_TRUE(blobs.ok()) << blobs.status();
    blobs_ = *std::move(blobs);
    loop_->Run(UnheardOutputs());
  }
  void Kill() {
    loop_->Stop();
    loop_.reset();
    blobs_.reset();
  }
  Collector::Parts parts() { return {loop_.get(), blobs_.get(), &log_}; }
  void Pass(int64_t ms) { env_.clock_ms = env_.clock_ms + ms; }
  size_t Collect() {
    const auto removed = CollectBlobsOnce(parts());
    EXPECT_TRUE(removed.ok()) << removed.status();
    return removed.value_or(0);
  }

  farm::v1::BlobRef Put(const std::string& bytes) {
    farm::v1::BlobRef blob;
    blob.set_digest(base::Digest::Of(bytes).Bytes());
    blob.set_size_bytes(bytes.size());
    auto writer = blobs_->OpenWriter(blob, "test");
    EXPECT_TRUE(writer.ok() && (*writer)->Append(bytes).ok() && (*writer)->Commit().ok()) << writer.status();
    return blob;
  }
  bool OnDisk(const farm::v1::BlobRef& blob) {
    const std::string hex = base::Digest::FromBytes(blob.digest())->Hex();
    return env_.Exists(folder_.File("blobs") + "/" + hex.substr(0, 2) + "/" + hex);
  }
  absl::Status Ask(const std::function<Input(uint64_t)>& make) {
    std::promise<absl::Status> answered;
    loop_->Ask(make, [&answered](const Reply& reply) { answered.set_value(reply.status); });
    return answered.get_future().get();
  }
  // A job of one panel whose font is this blob.
  void Submit(const std::string& id, const farm::v1::BlobRef& font) {
    farm::v1::JobSpec spec;
    spec.set_job_id(id);
    spec.set_idempotency_key(id);
    spec.set_request_digest(std::string(32, 'r'));
    spec.mutable_model()->set_name("tiny");
    spec.mutable_model()->set_digest(std::string(32, 'm'));
    spec.mutable_story()->add_chapters()->add_panels()->set_prompt("p");
    spec.add_frame_sets()->add_panels(0);
    farm::v1::PageTask page;
    page.add_panels(0);
    *spec.add_pages() = page;
    page.set_book(true);
    *spec.add_pages() = page;
    *spec.add_fonts()->mutable_blob() = font;
    ASSERT_TRUE(Ask([&spec](uint64_t number) { return Input(SubmitJob{number, spec}); }).ok());
    ASSERT_TRUE(Ask([&id](uint64_t number) { return Input(CancelJob{number, id}); }).ok());
  }
  void Remove(const std::string& id) {
    ASSERT_TRUE(Ask([&id](uint64_t number) { return Input(ForgetJob{number, id}); }).ok());
  }

  // Writes into the log that some job left a pack of this bank and picture behind, and starts anew on it.
  void MakePack(char key, uint64_t unix_ms, const farm::v1::BlobRef& step, const farm::v1::BlobRef& image) {
    Kill();
    MemoryStore store(disk_);
    ASSERT_TRUE(store.TakeOver().ok());
    const auto end = store.Load([](const Snapshot&) { return absl::OkStatus(); },
                                [](const farm::v1::RecordBatch&) { return absl::OkStatus(); });
    ASSERT_TRUE(end.ok()) << end.status();
    farm::v1::RecordBatch batch;
    batch.set_sequence(end->sequence + 1);
    batch.add_records()->mutable_taken_over()->set_incarnation(++random_);
    farm::v1::PackManifest& pack = *batch.add_records()->mutable_pack_stored()->mutable_manifest();
    pack.set_key(std::string(32, key));
    pack.set_created_unix_ms(unix_ms);
    *pack.mutable_bank()->add_steps() = step;
    *pack.add_frames()->mutable_image() = image;
    pack.set_size_bytes(step.size_bytes() + image.size_bytes());
    ASSERT_EQ(store.Append(batch).outcome, AppendOutcome::kAppended);
    Start();
  }

  testing_support::TempFolder folder_;
  Loop::Options options_;
  base::Env& loop_env_ = base::Env::Real();
  testing_support::FaultyEnv env_{base::Env::Real()};  // the blobs' clock
  std::shared_ptr<MemoryDisk> disk_;
  base::Log log_;
  std::atomic<uint64_t> random_{1};
  std::unique_ptr<MemoryStore> store_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<BlobStore> blobs_;
};

TEST_F(CollectorTest, WhatNothingNamesGoesAfterADayAndWhatAJobNamesStaysUntilItIsRemoved) {
  const auto font = Put("font"), orphan = Put("orphan");
  Submit("j-0000000001", font);
  Pass(kPinMs - 1);
  EXPECT_EQ(Collect(), 0u);
  Pass(1);
  EXPECT_EQ(Collect(), 1u);
  EXPECT_FALSE(OnDisk(orphan));
  EXPECT_FALSE(blobs_->Has(orphan.digest()));
  ASSERT_TRUE(OnDisk(font));
  Remove("j-0000000001");
  while (OnDisk(font)) Collect();  // the fold that it looks at may be a batch behind
  EXPECT_FALSE(blobs_->Has(font.digest()));
}

TEST_F(CollectorTest, WhatAPackHoldsStaysUntilThePackIsRemoved) {
  const auto step = Put("a step of a bank"), image = Put("image"), orphan = Put("another step");
  MakePack('k', 1, step, image);
  Pass(kPinMs);
  while (OnDisk(orphan)) Collect();
  EXPECT_TRUE(OnDisk(step) && OnDisk(image)) << "the pack names them";
  ASSERT_TRUE(Ask([](uint64_t number) { return Input(ForgetPack{number, "6b6b6b6b"}); }).ok());  // k in hex
  while (OnDisk(step) || OnDisk(image)) Collect();  // the fold that it looks at may be a batch behind
}

TEST_F(CollectorTest, OfPacksBeyondTheBudgetTheOneUsedLongestAgoGoesWithWhatOnlyItNames) {
  options_.farm.pack_budget_bytes = 20;
  const auto first = Put("first bank"), second = Put("second bank"), image = Put("image");
  MakePack('k', 1, first, image);
  MakePack('l', 2, second, image);
  Pass(kPinMs);
  while (OnDisk(first)) Collect();  // from the next tick on
  EXPECT_TRUE(OnDisk(second) && OnDisk(image));
}

TEST_F(CollectorTest, WhoWasToldThatABlobIsPresentHasADayMore) {
  const auto blob = Put("blob");
  Pass(kPinMs);
  ASSERT_TRUE(blobs_->FindMissing({blob})->empty());
  EXPECT_EQ(Collect(), 0u);
  Pass(kPinMs);
  EXPECT_EQ(Collect(), 1u);
  EXPECT_EQ(blobs_->FindMissing({blob})->size(), 1u);
}

TEST_F(CollectorTest, NothingGoesForADayAfterARestart) {
  const auto blob = Put("blob");
  Pass(kPinMs);
  Kill();
  Start();
  EXPECT_EQ(Collect(), 0u);
  Pass(kPinMs);
  EXPECT_EQ(Collect(), 1u);
  EXPECT_FALSE(OnDisk(blob));
}

TEST_F(CollectorTest, ACondemnedBlobIsMissingAlsoAfterARestartUntilItIsGoneAndCanComeAgain) {
  const auto blob = Put("blob");
  Pass(kPinMs);
  ASSERT_TRUE(blobs_->Condemn(blob.digest()));
  EXPECT_FALSE(blobs_->Has(blob.digest()));
  EXPECT_TRUE(absl::IsNotFound(blobs_->Pin(blob.digest()).status()));
  EXPECT_TRUE(absl::IsAborted(blobs_->OpenWriter(blob, "again").status()));
  ASSERT_TRUE(Ask([&blob](uint64_t number) { return Input(CondemnBlobs{number, {blob.digest()}}); }).ok());
  Kill();  // before it was unlinked
  Start();
  EXPECT_TRUE(OnDisk(blob));
  EXPECT_FALSE(blobs_->Has(blob.digest()));
  EXPECT_EQ(Collect(), 1u);  // at once: nobody can have been told of it
  EXPECT_FALSE(OnDisk(blob));
  Put("blob");
  EXPECT_TRUE(blobs_->Has(blob.digest()));
  Kill();
  Start();
  EXPECT_TRUE(blobs_->Has(blob.digest()));  // no longer condemned
}

TEST_F(CollectorTest, ABlobThatSomebodyReadsIsNotCondemned) {
  const auto blob = Put("blob");
  Pass(kPinMs);
  {
    const auto pin = blobs_->Pin(blob.digest());
    ASSERT_TRUE(pin.ok());
    Pass(2 * kPinMs);
    EXPECT_FALSE(blobs_->Condemn(blob.digest()));
    EXPECT_EQ(Collect(), 0u);
  }
  EXPECT_EQ(Collect(), 0u);  // the end of the read counts, too
  Pass(kPinMs);
  EXPECT_EQ(Collect(), 1u);
}

TEST_F(CollectorTest, OneThatWasDeposedRemovesNothing) {
  const auto blob = Put("blob");
  Pass(kPinMs);
  MemoryStore other(disk_);
  ASSERT_TRUE(other.TakeOver().ok());
  EXPECT_FALSE(CollectBlobsOnce(parts()).ok());
  EXPECT_TRUE(OnDisk(blob));
}

}  // namespace
}  // namespace storyfarm::coordinator
