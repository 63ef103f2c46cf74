// The engine's service over a real socket, with a renderer that draws nothing but keeps the door's promises.
#include "worker/engine/service.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

#include "farm/v1/engine.pb.h"
#include "pipeline/base/framing.h"
#include "pipeline/page/png.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::engine {
namespace {

// Renders grey squares; stops at a gate between steps where a test asks for it.
class GreyRenderer : public render::Renderer {
 public:
  device::Report Report(bool) override { return {.name = "grey", .threads = 1, .dtypes = {"fp32"}}; }
  device::Memory MemoryNow() override { return {.reserved_bytes = 10, .free_bytes = 70, .total_bytes = 100}; }
  absl::StatusOr<render::RunStats> RenderIdentity(const render::IdentityRequest& request,
                                                  render::Observer& observer) override {
    return Render(request.frames, request.settings.steps, observer);
  }
  absl::StatusOr<render::RunStats> RenderFrames(const render::FramesRequest& request,
                                                render::Observer& observer) override {
    return Render(request.frames, request.settings.steps, observer);
  }

  absl::StatusOr<render::RunStats> EncodeTexts(const render::TextRequest& request,
                                               render::Observer& observer) override {
    if (absl::Status written = base::Env::Real().WriteFileDurably(request.output_path, "embeddings"); !written.ok()) {
      return written;
    }
    return Render({}, static_cast<int>(request.texts.size()), observer);
  }

  void CloseGate() { open_ = false; }
  void OpenGate() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  absl::Status fail_with;

 private:
  absl::StatusOr<render::RunStats> Render(const std::vector<render::Frame>& frames, int steps,
                                          render::Observer& observer) {
    if (!fail_with.ok()) return fail_with;
    std::vector<const render::Frame*> pass;
    for (const render::Frame& frame : frames) pass.push_back(&frame);
    for (int step = 1; step <= steps; ++step) {
      if (absl::Status told = observer.OnStep(pass, step, steps); !told.ok()) return told;
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return open_; });
    }
    for (const render::Frame& frame : frames) {
      render::FinishedFrame finished;
      finished.frame = &frame;
      finished.latents = {.channels = 4, .height = 2, .width = 2, .values = std::vector<float>(16, 0.5f)};
      finished.image = {.width = frame.width,
                        .height = frame.height,
                        .rgb = std::vector<uint8_t>(static_cast<size_t>(frame.width * frame.height * 3), 128)};
      if (absl::Status told = observer.OnFrame(std::move(finished)); !told.ok()) return told;
    }
    return render::RunStats{.render_ms = 5, .peak_bytes = 99};
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
};

class ServiceTest : public testing::Test {
 protected:
  ServiceTest() : sockets_(*base::MakeSocketPair()) {
    server_ = std::thread([this] { served_ = Serve(sockets_.child.get(), base::Env::Real(), renderer_, 1); });
  }
  ~ServiceTest() override {
    renderer_.OpenGate();
    HangUp();
  }

  void HangUp() {
    sockets_.parent.Reset();
    if (server_.joinable()) server_.join();
  }

  void Send(const farm::v1::EngineRequest& request) {
    ASSERT_TRUE(base::WriteFrame(sockets_.parent.get(), request.SerializeAsString()).ok());
  }
  farm::v1::EngineEvent Next() {
    auto bytes = base::ReadFrame(sockets_.parent.get());
    farm::v1::EngineEvent event;
    if (!bytes.ok() || !bytes->has_value()) {
      ADD_FAILURE() << "the service closed the socket";
      return event;
    }
    EXPECT_TRUE(event.ParseFromString(**bytes));
    return event;
  }

  farm::v1::EngineRequest FramesRun(uint64_t id) {
    farm::v1::EngineRequest request;
    request.set_request_id(id);
    farm::v1::RunRequest& run = *request.mutable_run();
    run.set_output_folder(folder_.path() + "/" + std::to_string(id));
    std::filesystem::create_directories(run.output_folder());
    farm::v1::FramesWork& work = *run.mutable_work()->mutable_frames();
    work.mutable_model()->set_name("grey-model");
    work.mutable_model()->set_digest(std::string(32, '\x5a'));
    farm::v1::RenderSettings& settings = *work.mutable_settings();
    settings.set_steps(2);
    settings.set_guidance_scale(5);
    settings.set_scheduler(farm::v1::EULER_ANCESTRAL);
    settings.set_consistency(false);
    settings.set_noise(farm::v1::NOISE_PANEL);
    work.mutable_plan()->set_dtype(farm::v1::FP32);
    work.mutable_plan()->set_vae_dtype(farm::v1::FP32);
    work.mutable_plan()->set_batch(1);
    farm::v1::Frame& frame = *work.add_frames();
    frame.set_panel(7);
    frame.set_id("p7");
    frame.set_prompt("a cat, \xE7\x8C\xAB");
    frame.set_negative_prompt("rain");
    frame.set_width(16);
    frame.set_height(8);
    frame.set_seed(42);
    return request;
  }

  testing_support::TempFolder folder_;
  GreyRenderer renderer_;
  base::SocketPair sockets_;
  absl::Status served_ = absl::UnknownError("still serving");
  std::thread server_;
};

TEST_F(ServiceTest, ARunTellsStepsThenTheFrameThenItsEnd) {
  Send(FramesRun(3));
  for (uint32_t step = 1; step <= 2; ++step) {
    const auto event = Next();
    EXPECT_EQ(event.request_id(), 3u);
    EXPECT_EQ(event.step().step(), step);
    EXPECT_EQ(event.step().steps(), 2u);
    EXPECT_EQ(event.step().panels(0), 7u);
  }
  const auto frame = Next();
  ASSERT_TRUE(frame.has_frame());
  EXPECT_EQ(frame.frame().panel(), 7u);
  EXPECT_TRUE(std::filesystem::exists(frame.frame().latents_path()));
  const auto done = Next();
  ASSERT_TRUE(done.has_run());
  EXPECT_EQ(done.run().peak_bytes(), 99u);
  HangUp();
  EXPECT_TRUE(served_.ok()) << served_;
}

TEST_F(ServiceTest, APictureCarriesItsRecipeInTextChunks) {
  Send(FramesRun(1));
  Next(), Next();
  const auto event = Next();
  auto bytes = base::Env::Real().ReadFile(event.frame().image_path());
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  auto texts = page::ReadPngTexts(*bytes);
  ASSERT_TRUE(texts.ok()) << texts.status();
  ASSERT_EQ(texts->size(), 2u);
  EXPECT_EQ((*texts)[0].keyword, "parameters");
  EXPECT_EQ(
      (*texts)[0].text,
      "a cat, \xE7\x8C\xAB\nNegative prompt: rain\nSteps: 2, Sampler: Euler a, CFG scale: 5, Seed: 42, Size: 16x8, "
      "Model hash: 5a5a5a5a5a, Model: grey-model");
  EXPECT_EQ((*texts)[1].keyword, "storyfarm");
  EXPECT_NE((*texts)[1].text.find("\"panel_id\":\"p7\""), std::string::npos) << (*texts)[1].text;
  EXPECT_NE((*texts)[1].text.find("EULER_ANCESTRAL"), std::string::npos) << (*texts)[1].text;
  Next();
}

TEST_F(ServiceTest, MemoryIsToldInTheMiddleOfARun) {
  renderer_.CloseGate();
  Send(FramesRun(1));
  EXPECT_TRUE(Next().has_step());
  farm::v1::EngineRequest request;
  request.set_request_id(2);
  request.mutable_memory();
  Send(request);
  const auto event = Next();
  EXPECT_EQ(event.request_id(), 2u);
  ASSERT_TRUE(event.has_memory());
  EXPECT_EQ(event.memory().memory().farm_bytes(), 10u);
  EXPECT_EQ(event.memory().memory().others_bytes(), 20u);
  EXPECT_EQ(event.memory().memory().free_bytes(), 70u);
}

TEST_F(ServiceTest, ARunStopsAtItsNextStepWhenTheParentHangsUp) {
  renderer_.CloseGate();
  Send(FramesRun(1));
  EXPECT_TRUE(Next().has_step());
  sockets_.parent.Reset();
  renderer_.OpenGate();
  server_.join();
  EXPECT_TRUE(served_.ok()) << served_;
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path() + "/1"));
}

TEST_F(ServiceTest, AFailureKeepsItsKindAndItsBytes) {
  renderer_.fail_with = render::Fail(render::FailureKind::kOutOfMemory, "no room for 12 bytes", 12);
  Send(FramesRun(9));
  const auto event = Next();
  EXPECT_EQ(event.request_id(), 9u);
  EXPECT_EQ(event.failed().failure().kind(), farm::v1::OUT_OF_MEMORY);
  EXPECT_EQ(event.failed().failure().needed_bytes(), 12u);
  EXPECT_EQ(event.failed().failure().message(), "no room for 12 bytes");
}

TEST_F(ServiceTest, AWorkWithAnUnsetFieldIsBadInputThatNamesIt) {
  auto request = FramesRun(1);
  request.mutable_run()->mutable_work()->mutable_frames()->mutable_settings()->clear_scheduler();
  Send(request);
  const auto event = Next();
  EXPECT_EQ(event.failed().failure().kind(), farm::v1::BAD_INPUT);
  EXPECT_NE(event.failed().failure().message().find("scheduler"), std::string::npos);
}

TEST_F(ServiceTest, AMissingBankStepIsABlobThatIsUnavailable) {
  auto request = FramesRun(1);
  farm::v1::Bank& bank = *request.mutable_run()->mutable_work()->mutable_frames()->add_banks();
  bank.set_character_key(std::string(16, 'k'));
  bank.add_steps();
  bank.add_steps()->set_digest(std::string(32, 'd'));
  Send(request);
  const auto event = Next();
  EXPECT_EQ(event.failed().failure().kind(), farm::v1::BLOB_UNAVAILABLE);
  EXPECT_NE(event.failed().failure().message().find("step 1"), std::string::npos) << event.failed().failure().message();
}

TEST_F(ServiceTest, TheNextRunDrawsWhileThePicturesOfTheLastOneAreWritten) {
  auto first = FramesRun(1);
  farm::v1::FramesWork& work = *first.mutable_run()->mutable_work()->mutable_frames();
  work.mutable_frames(0)->set_width(2048);
  work.mutable_frames(0)->set_height(2048);
  Send(first);
  Send(FramesRun(2));
  std::vector<uint64_t> order;
  while (order.size() < 8) order.push_back(Next().request_id());
  // Two steps each; the small picture of the second run overtakes the large one of the first.
  EXPECT_EQ(order, (std::vector<uint64_t>{1, 1, 2, 2, 2, 2, 1, 1}));
}

TEST_F(ServiceTest, PagesAreComposedWhileARunDraws) {
  renderer_.CloseGate();
  Send(FramesRun(1));
  EXPECT_TRUE(Next().has_step());
  auto page = FramesRun(2);
  page.mutable_run()->mutable_work()->mutable_page();
  Send(page);
  const auto event = Next();
  EXPECT_EQ(event.request_id(), 2u);
  EXPECT_TRUE(event.has_failed()) << "a page of nothing";
}

TEST_F(ServiceTest, RequestsBeyondTheQueueAreRefusedAndTheOthersRun) {
  renderer_.CloseGate();
  Send(FramesRun(1));
  EXPECT_TRUE(Next().has_step());  // running: the queue is empty now
  for (uint64_t id = 2; id <= 2 + kMaxQueuedRequests; ++id) Send(FramesRun(id));
  const auto refused = Next();
  EXPECT_EQ(refused.request_id(), 2 + kMaxQueuedRequests);
  EXPECT_EQ(refused.failed().failure().kind(), farm::v1::BAD_INPUT);
  renderer_.OpenGate();
  int ended = 0;
  while (ended < static_cast<int>(1 + kMaxQueuedRequests)) ended += Next().has_run() ? 1 : 0;
}

TEST_F(ServiceTest, BytesThatAreNoRequestEndTheServiceWithASentence) {
  ASSERT_TRUE(base::WriteFrame(sockets_.parent.get(), "\xff\xff\xff").ok());
  server_.join();
  EXPECT_TRUE(absl::IsDataLoss(served_)) << served_;
}

}  // namespace
}  // namespace storyfarm::engine
