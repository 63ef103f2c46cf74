// Frames that read a bank while it is written, through the renderer's door.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "pipeline/render/request.h"
#include "tests/pipeline/render/render_fixture.h"

namespace storyfarm::render {
namespace {

// Steps of one bank on their way from a writer to a reader.
class Steps {
 public:
  void Put(const std::string& path) {
    const std::lock_guard<std::mutex> lock(mutex_);
    paths_.push_back(path);
    changed_.notify_all();
  }
  void LetGo() {
    const std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
    changed_.notify_all();
  }
  absl::StatusOr<std::string> Wait(int step) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return over_ || static_cast<size_t>(step) < paths_.size(); });
    if (static_cast<size_t>(step) >= paths_.size()) return absl::CancelledError("over");
    return paths_[static_cast<size_t>(step)];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> paths_;
  bool over_ = false;
};

// A writer that tells its steps.
class Writing final : public Observer {
 public:
  explicit Writing(Steps* steps) : steps_(*steps) {}
  absl::Status OnStep(const std::vector<const Frame*>&, int, int) override { return absl::OkStatus(); }
  absl::Status OnFrame(FinishedFrame) override { return absl::OkStatus(); }
  absl::Status OnBankStep(int, const std::string& path) override {
    steps_.Put(path);
    return absl::OkStatus();
  }

 private:
  Steps& steps_;
};

class Wavefront : public Render {
 protected:
  IdentityRequest Writer(const std::string& folder) {
    std::filesystem::create_directory(temp_.File(folder));
    return Identity(0, {Panel(0, "a cat, sitting on the beach"), Panel(1, "a cat, running in the snow")},
                    temp_.File(folder));
  }
  FramesRequest Reader(Steps* steps) {
    FramesRequest request = Read({Panel(3, "a cat, jumping in the forest", {0}), Panel(4, "a cat in a room", {0})}, {});
    request.plan.batch = 2;
    BankFiles bank;
    bank.character_key = Key(0);
    bank.identity_frames = 2;
    bank.path_of = [steps](int step) { return steps->Wait(step); };
    request.banks = {bank};
    request.let_go = [steps] { steps->LetGo(); };
    return request;
  }
};

TEST_F(Wavefront, FramesThatReadABankWhileItIsWrittenAreThoseReadAfterwards) {
  Steps steps;
  Collector reader;
  absl::Status read;
  std::thread other([&] {
    auto renderer = Renderer::Create("cpu", 1);
    ASSERT_TRUE(renderer.ok());
    read = (*renderer)->RenderFrames(Reader(&steps), reader).status();
  });
  Writing writing(&steps);
  const auto written = renderer_->RenderIdentity(Writer("bank"), writing);
  other.join();
  ASSERT_TRUE(written.ok()) << written.status();
  ASSERT_TRUE(read.ok()) << read;
  // Afterwards every step is there before the reader begins.
  const Collector after = RunOk(Reader(&steps));
  EXPECT_EQ(reader.latents, after.latents);
  EXPECT_EQ(reader.images, after.images);
}

TEST_F(Wavefront, AReaderWhoseRunEndsEarlyWaitsForNoWriter) {
  Steps steps;
  steps.Put("");
  FramesRequest request = Reader(&steps);
  Collector stopping;
  stopping.fail_at_step = 1;  // step 0 reads nothing, and step 1 never comes
  EXPECT_TRUE(absl::IsCancelled(renderer_->RenderFrames(request, stopping).status()));
}

}  // namespace
}  // namespace storyfarm::render
