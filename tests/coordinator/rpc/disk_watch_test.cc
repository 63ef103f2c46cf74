// Dispatch that pauses while the disk of the blobs is nearly full.
#include "coordinator/rpc/disk_watch.h"

#include <memory>
#include <mutex>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/rpc/test_farm.h"
#include "tests/coordinator/rpc/unheard_outputs.h"
#include "tests/support/faulty_env.h"

namespace storyfarm::coordinator {
namespace {

using testing::HasSubstr;

constexpr uint64_t kMib = 1 << 20;

class DiskWatchTest : public testing::Test {
 protected:
  DiskWatchTest()
      : log_(
            base::LogFormat::kText,
            [this](std::string_view line) {
              const std::lock_guard<std::mutex> lock(mutex_);
              lines_ += line;
            },
            [] { return uint64_t{0}; }) {
    store_ = std::make_unique<MemoryStore>(std::make_shared<MemoryDisk>());
    auto loop = Loop::Load({}, {&base::Env::Real(), &log_, store_.get(), [] { return uint64_t{1}; }});
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    loop_->Run(UnheardOutputs());
  }
  std::string Lines() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return lines_;
  }
  std::unique_ptr<DiskWatch> Watch(uint64_t low_mib) {
    return std::make_unique<DiskWatch>(DiskWatch::Parts{loop_.get(), &env_, &log_, "/", low_mib * kMib});
  }
  size_t Count(const std::string& what) {
    const std::string lines = Lines();
    size_t count = 0;
    for (size_t at = lines.find(what); at != std::string::npos; at = lines.find(what, at + 1)) ++count;
    return count;
  }

  std::mutex mutex_;
  std::string lines_;
  base::Log log_;
  testing_support::FaultyEnv env_{base::Env::Real()};
  std::unique_ptr<MemoryStore> store_;
  std::unique_ptr<Loop> loop_;
};

TEST_F(DiskWatchTest, ItHoldsBackBelowTheMarkAndGoesOnOnlyAHalfAboveIt) {
  env_.free_bytes = 1000 * kMib;
  const auto watch = Watch(500);
  EXPECT_EQ(Lines().find("disk low"), std::string::npos);
  env_.free_bytes = 499 * kMib;
  watch->Look();
  watch->Look();
  EXPECT_EQ(Count("disk low"), 1u);
  EXPECT_THAT(Lines(), HasSubstr("free_bytes=523239424"));
  for (const uint64_t mib : {501, 700, 749}) {
    env_.free_bytes = mib * kMib;
    watch->Look();
  }
  EXPECT_EQ(Count("disk has room again"), 0u);
  env_.free_bytes = 750 * kMib;
  watch->Look();
  EXPECT_EQ(Count("disk has room again"), 1u);
  env_.free_bytes = 501 * kMib;
  watch->Look();
  EXPECT_EQ(Count("disk low"), 1u);
}

TEST(LowDisk, APersonIsToldWhatIsFreeAndWhatWillDo) {
  TestFarm farm;
  ServerOptions options;
  options.low_disk_bytes = uint64_t{1} << 60;  // no disk has it
  ASSERT_TRUE(farm.Start(options).ok());
  Client client(farm.target());
  client.AddTinyModel();
  const std::string job = client.MustSubmit("k");
  farm::v1::JobStatus status;
  ASSERT_TRUE(client.GetJob(job, &status).ok());
  ASSERT_EQ(status.waiting_size(), 1);
  EXPECT_THAT(status.waiting(0).reason(), HasSubstr("the coordinator's disk is nearly full ("));
  EXPECT_THAT(status.waiting(0).reason(), HasSubstr("1649267441664 MiB are"));
}

}  // namespace
}  // namespace storyfarm::coordinator
