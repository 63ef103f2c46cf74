// The ring against files that are slow, missing, cut off and damaged: order, bounds, where errors surface, clean ends.
#include "pipeline/identity/bank_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
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

constexpr int kSteps = 6;
constexpr int64_t kLayers = 5;

bool Open(int64_t step, int64_t layer) { return step > 0 && (step + layer) % 3 != 0; }

std::vector<BankLoad> Loads(bool halves_batched) {
  std::vector<BankLoad> loads;
  for (int64_t step = 0; step < kSteps; ++step) {
    for (int64_t half = 0; half < (halves_batched ? 1 : 2); ++half) {
      for (int64_t layer = 0; layer < kLayers; ++layer) {
        if (Open(step, layer)) loads.push_back({step, layer, half, halves_batched ? 2 : 1});
      }
    }
  }
  return loads;
}

// Counts what it is asked, so that a test sees how far the ring has run ahead.
class CountingSlot final : public LoadSlot {
 public:
  explicit CountingSlot(std::atomic<int>& filled) : filled_(filled) {}
  absl::StatusOr<std::span<std::byte>> Prepare(uint64_t size_bytes) override {
    if (bytes_.size() < size_bytes) bytes_.resize(size_bytes);
    return std::span(bytes_).first(size_bytes);
  }
  absl::Status Send(uint64_t) override {
    ++filled_;
    return absl::OkStatus();
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::atomic<int>& filled_;
  std::vector<std::byte> bytes_;
};

// An Env whose reads stop at a gate, and that counts open files' reads.
class GatedEnv : public FaultyEnv {
 public:
  explicit GatedEnv(base::Env& real) : FaultyEnv(real) {}
  absl::StatusOr<std::unique_ptr<base::ReadableFile>> OpenForReading(const std::string& path) override {
    {
      std::unique_lock lock(mutex_);
      ++waiting_;
      changed_.notify_all();
      changed_.wait(lock, [&] { return open_; });
      --waiting_;
    }
    return FaultyEnv::OpenForReading(path);
  }
  void Close() {
    const std::lock_guard lock(mutex_);
    open_ = false;
  }
  void Open() {
    {
      const std::lock_guard lock(mutex_);
      open_ = true;
    }
    changed_.notify_all();
  }
  void AwaitReader() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ > 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  int waiting_ = 0;
};

class Ring : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int step = 0; step < kSteps; ++step) {
      std::vector<int64_t> layers;
      for (int64_t layer = 0; layer < kLayers; ++layer) {
        if (Open(step, layer)) layers.push_back(layer);
      }
      paths_.push_back(layers.empty() ? "" : temp_.File("bank-" + std::to_string(step) + ".bank"));
      if (!layers.empty()) WriteTestStep(base::Env::Real(), paths_.back(), step, layers);
    }
  }

  BankRing::Options Options(bool halves_batched = true, int threads = 1) {
    return {.origin = TestOrigin(),
            .path_of = [this](int64_t step) { return paths_[step]; },
            .loads = Loads(halves_batched),
            .layer_names = {"zero", "one", "two", "three", "four"},
            .threads = threads};
  }
  std::vector<LoadSlot*> Slots(int count) {
    slots_.clear();
    std::vector<LoadSlot*> slots;
    for (int i = 0; i < count; ++i) {
      slots_.push_back(std::make_unique<CountingSlot>(filled_));
      slots.push_back(slots_.back().get());
    }
    return slots;
  }
  // Reads to the end and compares every byte.
  void ExpectAll(BankRing& ring, const std::vector<BankLoad>& loads) {
    for (const BankLoad& load : loads) {
      const auto loaded = ring.Next(load);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      ASSERT_EQ(loaded->shape, TestShape(load.layer));
      for (int64_t h = 0; h < load.halves; ++h) {
        const auto wanted = PartBytes(loaded->shape, static_cast<int>(load.step), load.layer, load.first_half + h);
        const std::byte* at = slots_[loaded->slot]->bytes().data() + static_cast<size_t>(h) * loaded->shape.Bytes();
        ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), at));
      }
    }
  }
  // The status with which reading ends, and the load that it came at.
  absl::Status FirstError(BankRing& ring, const std::vector<BankLoad>& loads, BankLoad* at) {
    for (const BankLoad& load : loads) {
      if (const auto loaded = ring.Next(load); !loaded.ok()) {
        *at = load;
        return loaded.status();
      }
    }
    return absl::OkStatus();
  }
  void Damage(int step, const std::function<void(std::string*)>& how) {
    std::string bytes = *base::Env::Real().ReadFile(paths_[step]);
    how(&bytes);
    ASSERT_TRUE(base::Env::Real().WriteFileDurably(paths_[step], bytes).ok());
  }

  const TempFolder temp_;
  std::vector<std::string> paths_;
  std::atomic<int> filled_{0};
  std::vector<std::unique_ptr<CountingSlot>> slots_;
};

TEST_F(Ring, GivesEveryLoadInOrderWhateverItsDepthThreadsAndHalves) {
  for (const int depth : {1, 2, 4, 64}) {
    for (const int threads : {1, 3}) {
      for (const bool batched : {true, false}) {
        BankRing ring(base::Env::Real(), Options(batched, threads), Slots(depth));
        ExpectAll(ring, Loads(batched));
      }
    }
  }
}

TEST_F(Ring, RunsAheadByItsDepthAndNoFurtherEvenAcrossSteps) {
  filled_ = 0;
  constexpr int kDepth = 6;  // more than a step has
  BankRing ring(base::Env::Real(), Options(), Slots(kDepth));
  const std::vector<BankLoad> loads = Loads(true);
  for (size_t n = 0; n + kDepth < loads.size(); ++n) {
    // All slots fill without another word, since nothing else could wake this up; and Next frees exactly one.
    while (filled_ < static_cast<int>(n) + kDepth) std::this_thread::yield();
    EXPECT_EQ(filled_, static_cast<int>(n) + kDepth);
    ASSERT_TRUE(ring.Next(loads[n]).ok());
    EXPECT_LE(filled_, static_cast<int>(n) + kDepth) << "the slot that is in use was filled again";
    ring.Release();
  }
}

TEST_F(Ring, AMissingFileSurfacesAtTheLayerThatNeededIt) {
  ASSERT_TRUE(base::Env::Real().Remove(paths_[3]).ok());
  BankRing ring(base::Env::Real(), Options(true, 3), Slots(4));
  BankLoad at;
  const absl::Status status = FirstError(ring, Loads(true), &at);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(at.step, 3);
  EXPECT_EQ(at.layer, 1) << "the first open one of the step";
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("bank-3"), HasSubstr("step 3, layer 1 (one)")));
  EXPECT_EQ(ring.Next(at).status(), status) << "an error is final";
}

TEST_F(Ring, ACutOffFileIsDataLoss) {
  Damage(2, [](std::string* bytes) { bytes->resize(bytes->size() / 2); });
  BankRing ring(base::Env::Real(), Options(), Slots(2));
  BankLoad at;
  EXPECT_EQ(FirstError(ring, Loads(true), &at).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(at.step, 2);
}

TEST_F(Ring, ADamagedLayerIsDataLossThatNamesIt) {
  // The last part of step 4.
  Damage(4, [](std::string* bytes) {
    (*bytes)[bytes->size() - kBankTrailerBytes - 8 * kBankTableEntryBytes - 1] ^= 1;
  });
  for (const int threads : {1, 3}) {
    BankRing ring(base::Env::Real(), Options(true, threads), Slots(4));
    BankLoad at;
    const absl::Status status = FirstError(ring, Loads(true), &at);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_EQ(at.step, 4);
    EXPECT_EQ(at.layer, 4);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("bank-4"), HasSubstr("checksum of layer 4, half 1"), HasSubstr("(four)")));
  }
}

TEST_F(Ring, ALayerThatTheFileLacksIsNamed) {
  std::vector<BankLoad> loads = Loads(true);
  loads.push_back({5, 1, 0, 2});  // closed there
  BankRing::Options options = Options();
  options.loads = loads;
  BankRing ring(base::Env::Real(), options, Slots(2));
  BankLoad at;
  const absl::Status status = FirstError(ring, loads, &at);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no entry for step 5, layer 1"));
  // A step that nobody keeps anything of has no file at all.
  options.loads = {{0, 2, 0, 2}};
  BankRing empty(base::Env::Real(), options, Slots(2));
  EXPECT_THAT(std::string(empty.Next({0, 2, 0, 2}).status().message()), HasSubstr("no entry for step 0, layer 2"));
}

TEST_F(Ring, GuidanceMustBeWhatTheBankWasMadeWith) {
  BankRing::Options options = Options(false);
  options.halves = 1;
  BankRing ring(base::Env::Real(), options, Slots(2));
  const absl::Status status = ring.Next(options.loads[0]).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("made with guidance on, this run has it off"));
}

TEST_F(Ring, AskingOutOfTurnIsAnError) {
  BankRing ring(base::Env::Real(), Options(), Slots(2));
  EXPECT_EQ(ring.Next(Loads(true)[1]).status().code(), absl::StatusCode::kInternal);
}

TEST_F(Ring, ASlowDiskIsWaitedForAndAnEndInTheMiddleOfAReadIsClean) {
  GatedEnv disk(base::Env::Real());
  disk.Close();
  {
    BankRing ring(disk, Options(), Slots(2));
    disk.AwaitReader();
    EXPECT_EQ(filled_, 0);
    disk.Open();
    ExpectAll(ring, Loads(true));
  }
  for (int round = 0; round < 20; ++round) {
    BankRing ring(disk, Options(true, 3), Slots(3));
    if (round % 2 == 0) {
      ASSERT_TRUE(ring.Next(Loads(true)[0]).ok());
    }
  }
}

// What a wavefront will do: the caller's own waiting.
TEST_F(Ring, AChunkThatIsStillBeingMadeIsWaitedForByItsSource) {
  std::mutex mutex;
  std::condition_variable changed;
  int64_t made = 0;  // steps before it
  bool given_up = false;
  BankRing::Options options = Options();
  options.path_of = [&](int64_t step) -> absl::StatusOr<std::string> {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return step < made || given_up; });
    if (given_up) return absl::CancelledError("the writer is gone");
    return paths_[step];
  };
  const auto make = [&](int64_t steps) {
    {
      const std::lock_guard lock(mutex);
      made = steps;
    }
    changed.notify_all();
  };
  BankRing ring(base::Env::Real(), options, Slots(2));
  make(3);
  std::vector<BankLoad> first = Loads(true), rest;
  std::erase_if(first, [](const BankLoad& load) { return load.step >= 3; });
  ExpectAll(ring, first);
  {
    const std::lock_guard lock(mutex);
    given_up = true;
  }
  changed.notify_all();
  EXPECT_EQ(ring.Next({3, 1, 0, 2}).status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace storyfarm::identity
