// The real program, started as the agent starts it: it renders, is asked in the middle, leaves with its parent and dies
// with a reason.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <memory>
#include <string>

#include "tests/support/temp_folder.h"
#include "worker/engine/client.h"

namespace storyfarm::engine {
namespace {

using ::testing::HasSubstr;
using testing_support::TempFolder;

constexpr int64_t kPatienceMs = 60'000;
constexpr uint32_t kManySteps = 900;  // minutes of work: a test ends it long before

class Engine : public ::testing::Test {
 protected:
  void SetUp() override {
    auto started = EngineProcess::Start(
        {.program = std::string(STORYFARM_BIN_DIR) + "/storyfarm-engine", .device = "cpu", .threads = 1});
    ASSERT_TRUE(started.ok()) << started.status();
    engine_ = *std::move(started);
  }

  farm::v1::EngineRequest Run(uint64_t id, uint32_t steps) {
    farm::v1::EngineRequest request;
    request.set_request_id(id);
    farm::v1::RunRequest& run = *request.mutable_run();
    run.set_model_folder(std::string(STORYFARM_SOURCE_DIR) + "/tests/data/tiny_sdxl");
    run.set_output_folder(folder_.path());
    farm::v1::FramesWork& work = *run.mutable_work()->mutable_frames();
    work.mutable_model()->set_name("tiny");
    work.mutable_model()->set_digest(std::string(32, '\x11'));
    farm::v1::RenderSettings& settings = *work.mutable_settings();
    settings.set_width(48);
    settings.set_height(64);
    settings.set_steps(steps);
    settings.set_guidance_scale(5);
    settings.set_scheduler(farm::v1::DDIM);
    settings.set_noise(farm::v1::NOISE_PANEL);
    settings.set_consistency(false);
    farm::v1::MemoryPlan& plan = *work.mutable_plan();
    plan.set_backend(farm::v1::CPU);
    plan.set_dtype(farm::v1::FP32);
    plan.set_vae_dtype(farm::v1::FP32);
    plan.set_batch(1);
    plan.set_guidance_batched(true);
    farm::v1::Frame& frame = *work.add_frames();
    frame.set_panel(3);
    frame.set_id("p3");
    frame.set_prompt("a cat, sitting on the beach");
    frame.set_width(48);
    frame.set_height(64);
    return request;
  }

  // The next event of a kind; others are passed over. Not set where the engine went or asked for too long.
  farm::v1::EngineEvent Await(farm::v1::EngineEvent::KindCase kind) {
    while (true) {
      auto event = engine_->NextEvent(kPatienceMs);
      if (!event.ok()) {
        ADD_FAILURE() << event.status() << ": " << engine_->Ending().message();
        return {};
      }
      if (event->kind_case() == kind) return *std::move(event);
      EXPECT_NE(event->kind_case(), farm::v1::EngineEvent::kFailed) << event->failed().failure().message();
      if (event->kind_case() == farm::v1::EngineEvent::kFailed) return {};
    }
  }

  TempFolder folder_;
  std::unique_ptr<EngineProcess> engine_;
};

TEST_F(Engine, ProbingListsEveryDeviceAndItsOwnFirst) {
  farm::v1::EngineRequest request;
  request.set_request_id(1);
  request.mutable_probe();
  ASSERT_TRUE(engine_->Send(request).ok());
  const farm::v1::EngineEvent event = Await(farm::v1::EngineEvent::kProbed);
  EXPECT_EQ(event.request_id(), 1u);
  ASSERT_GE(event.probed().devices_size(), 1);
  EXPECT_EQ(event.probed().devices(0).backend(), farm::v1::CPU);
  EXPECT_GT(event.probed().devices(0).total_bytes(), 0u);
}

TEST_F(Engine, DrawsAPictureWithItsLatents) {
  ASSERT_TRUE(engine_->Send(Run(5, 2)).ok());
  const farm::v1::EngineEvent frame = Await(farm::v1::EngineEvent::kFrame);
  EXPECT_EQ(frame.frame().panel(), 3u);
  EXPECT_TRUE(std::filesystem::exists(frame.frame().image_path()));
  EXPECT_TRUE(std::filesystem::exists(frame.frame().latents_path()));
  EXPECT_GT(Await(farm::v1::EngineEvent::kRun).run().peak_bytes(), 0u);
}

TEST_F(Engine, TellsItsMemoryInTheMiddleOfARun) {
  ASSERT_TRUE(engine_->Send(Run(5, kManySteps)).ok());
  Await(farm::v1::EngineEvent::kStep);
  farm::v1::EngineRequest request;
  request.set_request_id(6);
  request.mutable_memory();
  ASSERT_TRUE(engine_->Send(request).ok());
  const farm::v1::EngineEvent event = Await(farm::v1::EngineEvent::kMemory);
  EXPECT_EQ(event.request_id(), 6u);
  EXPECT_GT(event.memory().memory().farm_bytes(), 0u);
}

TEST_F(Engine, LeavesByItselfWhenItsSocketClosesInTheMiddleOfARun) {
  ASSERT_TRUE(engine_->Send(Run(5, kManySteps)).ok());
  Await(farm::v1::EngineEvent::kStep);
  engine_->Stop(kPatienceMs);
  EXPECT_THAT(engine_->Ending().message(), HasSubstr("exited with code 0"));
}

TEST_F(Engine, KilledInTheMiddleOfARunIsAbortedWithTheSignal) {
  ASSERT_TRUE(engine_->Send(Run(5, kManySteps)).ok());
  Await(farm::v1::EngineEvent::kStep);
  kill(engine_->pid(), SIGKILL);
  absl::Status gone;
  while (gone.ok()) gone = engine_->NextEvent(kPatienceMs).status();
  EXPECT_EQ(gone.code(), absl::StatusCode::kUnavailable);
  const farm::v1::Failure failure = engine_->Ending();
  EXPECT_EQ(failure.kind(), farm::v1::ENGINE_ABORTED);
  EXPECT_THAT(failure.message(), HasSubstr("signal 9"));
}

TEST_F(Engine, ADeviceThatIsNotThereEndsTheProgramWithASentence) {
  auto started = EngineProcess::Start(
      {.program = std::string(STORYFARM_BIN_DIR) + "/storyfarm-engine", .device = "cuda:99", .threads = 1});
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ((*started)->NextEvent(kPatienceMs).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT((*started)->Ending().message(), HasSubstr("cuda:99"));
}

}  // namespace
}  // namespace storyfarm::engine
