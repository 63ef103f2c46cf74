// Frames that read a bank while it is written, through the renderer's door.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pipeline/render/request.h"
#include "tests/pipeline/render/render_fixture.h"
#include "worker/engine/bank_feed.h"

namespace storyfarm::render {
namespace {

// A writer that tells its steps to some runs.
class Writing final : public Observer {
 public:
  Writing(engine::BankFeed* feed, std::vector<uint64_t> runs) : feed_(*feed), runs_(std::move(runs)) {}
  absl::Status OnStep(const std::vector<const Frame*>&, int, int) override { return absl::OkStatus(); }
  absl::Status OnFrame(FinishedFrame) override { return absl::OkStatus(); }
  absl::Status OnBankStep(int step, const std::string& path) override {
    for (const uint64_t run : runs_) feed_.Put(run, 0, static_cast<uint32_t>(step), path);
    return absl::OkStatus();
  }

 private:
  engine::BankFeed& feed_;
  const std::vector<uint64_t> runs_;
};

class Wavefront : public Render {
 protected:
  IdentityRequest Writer(const std::string& folder) {
    std::filesystem::create_directory(temp_.File(folder));
    return Identity(0, {Panel(0, "a cat, sitting on the beach"), Panel(1, "a cat, running in the snow")},
                    temp_.File(folder));
  }
  FramesRequest Reader(engine::BankFeed* feed, uint64_t run) {
    FramesRequest request = Read({Panel(3, "a cat, jumping in the forest", {0}), Panel(4, "a cat in a room", {0})}, {});
    request.plan.batch = 2;
    BankFiles bank;
    bank.character_key = Key(0);
    bank.identity_frames = 2;
    bank.path_of = [feed, run](int step) { return feed->Wait(run, 0, static_cast<uint32_t>(step)); };
    request.banks = {bank};
    request.let_go = [feed, run] { feed->End(run); };
    return request;
  }
};

TEST_F(Wavefront, FramesThatReadABankWhileItIsWrittenAreThoseReadAfterwards) {
  engine::BankFeed feed;
  Collector reader;
  absl::Status read;
  std::thread other([&] {
    auto renderer = Renderer::Create("cpu", 1);
    ASSERT_TRUE(renderer.ok());
    read = (*renderer)->RenderFrames(Reader(&feed, 1), reader).status();
  });
  Writing writing(&feed, {1, 2});
  const auto written = renderer_->RenderIdentity(Writer("bank"), writing);
  other.join();
  ASSERT_TRUE(written.ok()) << written.status();
  ASSERT_TRUE(read.ok()) << read;
  // Afterwards every step is there before the reader begins.
  const Collector after = RunOk(Reader(&feed, 2));
  EXPECT_EQ(reader.latents, after.latents);
  EXPECT_EQ(reader.images, after.images);
}

TEST_F(Wavefront, AReaderWhoseRunEndsEarlyWaitsForNoWriter) {
  engine::BankFeed feed;
  feed.Put(1, 0, 0, "");
  FramesRequest request = Reader(&feed, 1);
  Collector stopping;
  stopping.fail_at_step = 1;  // step 0 reads nothing, and step 1 never comes
  EXPECT_TRUE(absl::IsCancelled(renderer_->RenderFrames(request, stopping).status()));
}

}  // namespace
}  // namespace storyfarm::render
