// storyfarm-worker as a process, with engines that render nothing, against a coordinator played by the test.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <set>

#include "pipeline/base/digest.h"
#include "pipeline/base/subprocess.h"
#include "tests/worker/agent/agent_fixture.h"

namespace storyfarm::worker {
namespace {

using farm::v1::WorkerMessage;
using testing_support::Eventually;

TEST_F(AgentTest, SaysWhoItIsAndWhatItHas) {
  StartWorker();
  const auto hello = coordinator_->WaitHello();
  ASSERT_TRUE(hello.has_value());
  EXPECT_EQ(hello->protocol_version(), 1U);
  EXPECT_EQ(hello->node_name(), "tester");
  EXPECT_EQ(hello->node_id().size(), 32U);
  ASSERT_EQ(hello->devices_size(), 1);
  EXPECT_EQ(hello->devices(0).name(), "fake cpu");
  EXPECT_TRUE(hello->held().empty());
}

TEST_F(AgentTest, FetchesTheModelRendersAndDeliversFrames) {
  Join();
  coordinator_->Send(FramesGrant(1, {"a cat", "a dog"}));
  for (uint32_t panel = 0; panel < 2; ++panel) {
    const auto result = WaitResult();
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->frame().panel(), panel);
    const auto image = coordinator_->Get(result->frame().image().digest());
    ASSERT_TRUE(image.has_value()) << "blobs are up before the result";
    EXPECT_EQ(*image, panel == 0 ? "image p0 a cat 0\n" : "image p1 a dog 0\n");
    EXPECT_TRUE(coordinator_->Get(result->frame().latents().digest()).has_value());
    EXPECT_GT(result->frame().finished_unix_ms(), 0U);
    Answer(*result);
  }
  EXPECT_TRUE(Eventually([this] { return OutboxFiles() == 0; }));
  EXPECT_EQ(EnginePids().size(), 1U) << "one warm engine";
}

TEST_F(AgentTest, RendersIdentitiesAndPages) {
  Join();
  farm::v1::CoordinatorMessage identity;
  *identity.mutable_grant()->mutable_token() = Token(1);
  farm::v1::TaskId* task = identity.mutable_grant()->add_tasks();
  task->set_job_id("j-0123456789");
  task->set_kind(farm::v1::TASK_IDENTITY);
  farm::v1::IdentityWork* work = identity.mutable_grant()->mutable_work()->mutable_identity();
  *work->mutable_model() = model_;
  work->mutable_settings()->set_steps(3);
  work->set_keep_bank(true);
  work->set_character_key("key");
  work->add_frames()->set_id("p0");
  coordinator_->Send(identity);
  auto result = WaitResult();
  ASSERT_TRUE(result.has_value());
  ASSERT_EQ(result->identity().bank().steps_size(), 3);
  EXPECT_TRUE(result->identity().bank().steps(0).digest().empty());
  EXPECT_TRUE(coordinator_->Get(result->identity().bank().steps(2).digest()).has_value());
  ASSERT_EQ(result->identity().frames_size(), 1);
  Answer(*result);

  farm::v1::CoordinatorMessage page;
  *page.mutable_grant()->mutable_token() = Token(2);
  task = page.mutable_grant()->add_tasks();
  task->set_job_id("j-0123456789");
  task->set_kind(farm::v1::TASK_PAGE);
  page.mutable_grant()->mutable_work()->mutable_page()->set_book(true);
  *page.mutable_grant()->mutable_work()->mutable_page()->add_pages()->add_panels()->mutable_image() =
      result->identity().frames(0).image();
  coordinator_->Send(page);
  result = WaitResult();
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(coordinator_->Get(result->page().pdf().digest()).has_value());
  EXPECT_TRUE(coordinator_->Get(result->page().cbz().digest()).has_value());
  EXPECT_FALSE(result->page().has_png());
}

TEST_F(AgentTest, ReportsAnAbortedEngineAndWorksOnWithANewOne) {
  Join();
  coordinator_->Send(FramesGrant(1, {"fake:abort-once", "a dog"}));
  const auto fault = WaitFault();
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind(), farm::v1::ENGINE_ABORTED) << fault->message();
  const auto result = WaitResult();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->frame().panel(), 1U);
  EXPECT_EQ(EnginePids().size(), 2U);
}

TEST_F(AgentTest, PassesOnWhatTheEngineSaysOfAFailure) {
  Join();
  coordinator_->Send(FramesGrant(1, {"fake:nan"}));
  const auto fault = WaitFault();
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind(), farm::v1::INVALID_OUTPUT);
}

TEST_F(AgentTest, RefusesAPlanThatExceedsWhatIsFree) {
  Join({{"FAKE_ENGINE_FREE_BYTES", "999999"}});
  coordinator_->Send(FramesGrant(1, {"a cat"}));
  const auto fault = WaitFault();
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind(), farm::v1::OUT_OF_MEMORY);
  EXPECT_EQ(fault->needed_bytes(), 1'000'000U);
}

TEST_F(AgentTest, ReportsAnInputThatCannotBeHad) {
  Join();
  coordinator_->Forget(model_.files(0).blob().digest());
  coordinator_->Send(FramesGrant(1, {"a cat"}));
  const auto fault = WaitFault();
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind(), farm::v1::BLOB_UNAVAILABLE) << fault->message();
}

TEST_F(AgentTest, NeverUsesABlobThatDoesNotMatchItsDigest) {
  Join();
  coordinator_->Corrupt(model_.files(1).blob().digest());
  coordinator_->Send(FramesGrant(1, {"a cat"}));
  const auto fault = WaitFault();
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind(), farm::v1::BLOB_UNAVAILABLE) << fault->message();
}

TEST_F(AgentTest, RefusesAModelWhosePathsLeaveItsFolder) {
  Join();
  model_.mutable_files(1)->set_path("../../escape");
  coordinator_->Send(FramesGrant(1, {"a cat"}));
  ASSERT_TRUE(WaitFault().has_value());
  EXPECT_FALSE(std::filesystem::exists(folder_.File("worker/escape")));
}

TEST_F(AgentTest, StopsARevokedGroupAndTakesTheNext) {
  Join();
  coordinator_->Send(FramesGrant(1, {"fake:hang"}));
  ASSERT_TRUE(coordinator_->Wait([](const WorkerMessage& message) {
    return message.has_heartbeat() && message.heartbeat().held_size() == 1 && message.heartbeat().held(0).started();
  }));
  farm::v1::CoordinatorMessage revoke;
  *revoke.mutable_revoke()->mutable_token() = Token(1);
  coordinator_->Send(revoke);
  coordinator_->Send(FramesGrant(2, {"a dog"}, 7));
  const auto result = WaitResult();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->frame().panel(), 7U);
}

TEST_F(AgentTest, RendersOnWhileTheStreamIsBrokenAndDeliversAfterwards) {
  Join({{"FAKE_ENGINE_STEP_MS", "20"}});
  coordinator_->Send(FramesGrant(1, {"a", "b", "c"}));
  ASSERT_TRUE(coordinator_->Wait(WorkerMessage::kProgress).has_value());
  coordinator_->BreakStream();
  const auto hello = coordinator_->WaitHello();
  ASSERT_TRUE(hello.has_value());
  EXPECT_EQ(hello->held_size() + hello->outbox_size(), 3);
  coordinator_->Welcome(*hello);
  std::set<uint32_t> panels;
  for (int i = 0; i < 3; ++i) {
    const auto result = WaitResult();
    ASSERT_TRUE(result.has_value());
    panels.insert(result->frame().panel());
    Answer(*result);
  }
  EXPECT_EQ(panels.size(), 3U);
}

TEST_F(AgentTest, DeliversAfterASigkillWhatItHadFinished) {
  Join();
  coordinator_->Send(FramesGrant(1, {"a cat"}));
  ASSERT_TRUE(WaitResult().has_value());  // and never answered
  EXPECT_EQ(OutboxFiles(), 1U);
  const std::set<pid_t> engines = EnginePids();
  worker_->Signal(SIGKILL);
  worker_->Wait(absl::Seconds(30));
  for (const pid_t engine : engines) {
    EXPECT_TRUE(Eventually([engine] { return ::kill(engine, 0) != 0; })) << "engines die with their worker";
  }
  ASSERT_TRUE(coordinator_->WaitGone());
  StartWorker();
  const auto hello = coordinator_->WaitHello();
  ASSERT_TRUE(hello.has_value());
  ASSERT_EQ(hello->outbox_size(), 1);
  EXPECT_EQ(hello->outbox(0).token().number(), 1U);
  EXPECT_GE(hello->cached_digests_size(), 1) << "the model is still here";
  coordinator_->Welcome(*hello);
  const auto result = WaitResult();
  ASSERT_TRUE(result.has_value());
  Answer(*result);
  EXPECT_TRUE(Eventually([this] { return OutboxFiles() == 0; }));
}

TEST_F(AgentTest, UploadsAgainWhatTheCoordinatorLost) {
  Join();
  coordinator_->Send(FramesGrant(1, {"a cat"}));
  auto result = WaitResult();
  ASSERT_TRUE(result.has_value());
  const std::string digest = result->frame().image().digest();
  coordinator_->Forget(digest);
  farm::v1::CoordinatorMessage message;
  *message.mutable_verdict()->mutable_token() = result->token();
  *message.mutable_verdict()->mutable_task() = result->task();
  message.mutable_verdict()->set_verdict(farm::v1::BLOBS_MISSING);
  message.mutable_verdict()->add_missing_digests(digest);
  coordinator_->Send(message);
  result = WaitResult();
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(coordinator_->Get(digest).has_value());
}

TEST_F(AgentTest, LeavesOnSigtermAfterFinishingWhatRuns) {
  Join({{"FAKE_ENGINE_STEP_MS", "50"}});
  coordinator_->Send(FramesGrant(1, {"a", "b", "c", "d"}));
  ASSERT_TRUE(coordinator_->Wait(WorkerMessage::kProgress).has_value());
  worker_->Signal(SIGTERM);
  const auto leaving = coordinator_->Wait(WorkerMessage::kLeaving);
  ASSERT_TRUE(leaving.has_value());
  EXPECT_EQ(leaving->leaving().released_size(), 1) << "frames that have not started are given back";
  const auto result = WaitResult();
  ASSERT_TRUE(result.has_value());
  Answer(*result);
  const auto ended = worker_->Wait(absl::Seconds(30));
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->code, 0) << ended->ToString();
  EXPECT_EQ(OutboxFiles(), 0U);
  for (const pid_t engine : EnginePids()) EXPECT_NE(::kill(engine, 0), 0) << "it left no orphan";
}

TEST_F(AgentTest, LeavesAtOnceOnASecondSigterm) {
  Join();
  coordinator_->Send(FramesGrant(1, {"fake:hang"}));
  ASSERT_TRUE(coordinator_->Wait([](const WorkerMessage& message) {
    return message.has_heartbeat() && message.heartbeat().held_size() == 1 && message.heartbeat().held(0).started();
  }));
  worker_->Signal(SIGTERM);
  ASSERT_TRUE(coordinator_->Wait(WorkerMessage::kLeaving).has_value());
  worker_->Signal(SIGTERM);
  const auto ended = worker_->Wait(absl::Seconds(30));
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->code, 128 + SIGTERM);
}

TEST_F(AgentTest, EndsWithASentenceWhereTheCoordinatorIsOfAnotherVersion) {
  coordinator_->Refuse(9, "This worker speaks version 1 and the coordinator needs 2: update storyfarm-worker.");
  StartWorker();
  const auto ended = worker_->Wait(absl::Seconds(30));
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->code, 5) << ended->ToString();
  EXPECT_NE(Log().find("update storyfarm-worker"), std::string::npos) << Log();
}

TEST_F(AgentTest, WaitsForACoordinatorThatIsNotThereYet) {
  coordinator_ = nullptr;
  StartWorker();
  EXPECT_TRUE(
      Eventually([this] { return Log().find("no coordinator: trying again until it answers") != std::string::npos; }));
  coordinator_ = std::make_unique<FakeCoordinator>(Socket());
  EXPECT_TRUE(coordinator_->WaitHello().has_value());
}

TEST_F(AgentTest, RefusesADataFolderThatAnotherWorkerUses) {
  Join();
  const std::unique_ptr<base::Subprocess> first = std::move(worker_);
  StartWorker();
  const auto ended = worker_->Wait(absl::Seconds(30));
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->code, 3);
  EXPECT_NE(Log().find("Another storyfarm-worker uses the data folder"), std::string::npos);
}

}  // namespace
}  // namespace storyfarm::worker
