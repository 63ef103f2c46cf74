#include "worker/core/session.h"

#include <gtest/gtest.h>

#include "tests/worker/core/bench.h"

namespace storyfarm::worker {
namespace {

using farm::v1::WorkerMessage;

farm::v1::CoordinatorMessage Revoke(uint64_t token, const std::vector<uint32_t>& frames = {}) {
  farm::v1::CoordinatorMessage message;
  *message.mutable_revoke()->mutable_token() = Token(token);
  for (const uint32_t frame : frames) *message.mutable_revoke()->add_tasks() = FrameTask(frame);
  return message;
}

farm::v1::CoordinatorMessage Trim(uint64_t token, const std::vector<uint32_t>& frames) {
  farm::v1::CoordinatorMessage message;
  *message.mutable_trim()->mutable_token() = Token(token);
  for (const uint32_t frame : frames) *message.mutable_trim()->add_tasks() = FrameTask(frame);
  return message;
}

TEST(Session, SendsHelloFirstAndNothingElseBeforeWelcome) {
  Bench bench;
  bench.Do(Connected{{"digest"}});
  bench.Wait(10'000);
  const auto sent = Bench::Sent(bench.done);
  ASSERT_EQ(sent.size(), 1U);
  ASSERT_TRUE(sent[0].has_hello());
  EXPECT_EQ(sent[0].hello().protocol_version(), kProtocolVersion);
  EXPECT_EQ(sent[0].hello().devices_size(), 1);
  EXPECT_EQ(sent[0].hello().cached_digests(0), "digest");
}

TEST(Session, BeatsAtThePaceThatWelcomeSets) {
  Bench bench;
  bench.Start();
  bench.Wait(20'000);
  EXPECT_EQ(bench.All(WorkerMessage::kHeartbeat).size(), 11U);
}

TEST(Session, PreparesMeasuresAndRunsFramesABatchAtATime) {
  Bench bench;
  bench.Start();
  const StartRun first = bench.StartGrant(FramesGrant(1, 0, 10, 3, /*batch=*/2));
  EXPECT_EQ(first.work.frames().frames_size(), 2);
  EXPECT_EQ(first.work.frames().frames(0).panel(), 10U);
  bench.Do(Stored(first.run, 10));
  bench.Do(Stored(first.run, 11));
  const auto next = Bench::Of<StartRun>(bench.Do(RunEnded{first.run, 0, 0}));
  ASSERT_EQ(next.size(), 1U) << "no second measurement";
  EXPECT_EQ(next[0].work.frames().frames(0).panel(), 12U);
  bench.Do(Stored(next[0].run, 12));
  const Actions end = bench.Do(RunEnded{next[0].run, 0, 0});
  EXPECT_EQ(Bench::Of<Release>(end).size(), 1U);
  EXPECT_EQ(bench.session.held_tasks(), 0U);
  EXPECT_EQ(bench.session.outbox_size(), 3U);
}

TEST(Session, RunsAWholeGroupAtOnceWhereEachRunWouldLoadTheModelAgain) {
  Bench bench;
  bench.Start();
  EXPECT_EQ(bench.StartGrant(FramesGrant(1, 0, 10, 5, 1, /*phases=*/true)).work.frames().frames_size(), 5);
}

TEST(Session, PreparesTheNextGroupWhileOneRunsAndGivesAThirdBack) {
  Bench bench;
  bench.Start();
  bench.StartGrant(FramesGrant(1, 0, 0, 1));
  EXPECT_EQ(Bench::Of<Prepare>(bench.Hear(FramesGrant(2, 0, 1, 1))).size(), 1U);
  const Actions third = bench.Hear(FramesGrant(3, 0, 2, 1));
  EXPECT_TRUE(Bench::Of<Prepare>(third).empty());
  ASSERT_EQ(Bench::Sent(third).size(), 1U);
  EXPECT_EQ(Bench::Sent(third)[0].trim_reply().released_size(), 1);
}

TEST(Session, DevicesWorkSideBySide) {
  Bench bench(2);
  bench.Start();
  const StartRun one = bench.StartGrant(FramesGrant(1, 0, 0, 1));
  const StartRun two = bench.StartGrant(FramesGrant(2, 1, 1, 1));
  EXPECT_EQ(one.device, 0U);
  EXPECT_EQ(two.device, 1U);
}

TEST(Session, IgnoresAGrantThatItAlreadyHolds) {
  Bench bench;
  bench.Start();
  bench.StartGrant(FramesGrant(1, 0, 0, 1));
  EXPECT_TRUE(Bench::Of<Prepare>(bench.Hear(FramesGrant(1, 0, 0, 1))).empty());
  EXPECT_EQ(bench.session.held_tasks(), 1U);
}

TEST(Session, ReportsAGrantThatContradictsItself) {
  Bench bench;
  bench.Start();
  farm::v1::CoordinatorMessage grant = FramesGrant(1, 0, 0, 2);
  grant.mutable_grant()->mutable_work()->mutable_frames()->mutable_frames()->RemoveLast();
  bench.Hear(grant);
  ASSERT_EQ(bench.All(WorkerMessage::kFault).size(), 1U);
  EXPECT_EQ(bench.All(WorkerMessage::kFault)[0].fault().tasks_size(), 2);
}

TEST(Session, ReportsOutOfMemoryWithBothNumbersInsteadOfTrying) {
  Bench bench;
  bench.Start();
  bench.Hear(FramesGrant(1, 0, 0, 2));
  ASSERT_EQ(Bench::Of<Measure>(bench.Do(Prepared{Token(1)})).size(), 1U);
  const Actions actions = bench.Do(MemoryMeasured{0, Memory(0, 400'000'000)});
  EXPECT_TRUE(Bench::Of<StartRun>(actions).empty());
  ASSERT_EQ(bench.All(WorkerMessage::kFault).size(), 1U);
  const farm::v1::TaskFault fault = bench.All(WorkerMessage::kFault)[0].fault();
  EXPECT_EQ(fault.failure().kind(), farm::v1::OUT_OF_MEMORY);
  EXPECT_EQ(fault.failure().needed_bytes(), 1'000'000'000U);
  EXPECT_NE(fault.failure().message().find("needs 1 GB and 0.4 GB are free"), std::string::npos)
      << fault.failure().message();
  EXPECT_EQ(fault.tasks_size(), 2);
}

TEST(Session, CountsAWarmEnginesOwnMemoryAsFree) {
  Bench bench;
  bench.Start();
  bench.Hear(FramesGrant(1, 0, 0, 1));
  bench.Do(Prepared{Token(1)});
  farm::v1::DeviceMemory memory = Memory(0, 400'000'000);
  memory.set_farm_bytes(700'000'000);
  EXPECT_EQ(Bench::Of<StartRun>(bench.Do(MemoryMeasured{0, memory})).size(), 1U);
}

TEST(Session, PagesRunWithoutAMemoryCheck) {
  Bench bench;
  bench.Start();
  bench.Hear(PageGrant(1, 0));
  const auto runs = Bench::Of<StartRun>(bench.Do(Prepared{Token(1)}));
  ASSERT_EQ(runs.size(), 1U);
  farm::v1::PageResult page;
  *page.mutable_png() = Blob("page");
  bench.Do(PagesStored{runs[0].run, page});
  bench.Do(RunEnded{runs[0].run, 0, 0});
  EXPECT_EQ(Bench::Of<Persist>(bench.done).at(0).result.page().png().digest(), "page");
}

TEST(Session, BuildsAnIdentityFromItsStepsAndUploadsThemAsTheyCome) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(IdentityGrant(1, 0));
  bench.Do(StepReached{run.run, {0}, 1, 2});
  EXPECT_EQ(Bench::Of<Upload>(bench.Do(BankStepStored{run.run, 1, Blob("step1")})).size(), 1U) << "ahead of the result";
  bench.Do(BankStepStored{run.run, 0, {}});
  bench.Do(Stored(run.run, 0));
  FrameStored hidden = Stored(run.run, 1);
  hidden.hidden = true;
  bench.Do(hidden);
  bench.Do(RunEnded{run.run, 30, 40});
  ASSERT_EQ(Bench::Of<Persist>(bench.done).size(), 1U);
  const farm::v1::IdentityResult result = Bench::Of<Persist>(bench.done)[0].result.identity();
  EXPECT_EQ(result.bank().character(), 2U);
  EXPECT_EQ(result.bank().identity_frames(), 2U);
  ASSERT_EQ(result.bank().steps_size(), 2);
  EXPECT_TRUE(result.bank().steps(0).digest().empty());
  EXPECT_EQ(result.bank().steps(1).digest(), "step1");
  EXPECT_EQ(result.frames_size(), 1);
  EXPECT_EQ(result.render_ms(), 30U);
}

TEST(Session, ATextPassGivesItsFileOfEmbeddingsWithWhatTheRunTook) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(TextGrant(1, 0));
  EXPECT_EQ(run.work.text().texts(0), "a cat");
  bench.Do(StepReached{run.run, {}, 1, 1});
  bench.Do(TextStored{run.run, Blob("embeddings")});
  EXPECT_TRUE(Bench::Of<Persist>(bench.done).empty()) << "the run goes on";
  bench.Do(RunEnded{run.run, 30, 40});
  ASSERT_EQ(Bench::Of<Persist>(bench.done).size(), 1U);
  const farm::v1::TextResult result = Bench::Of<Persist>(bench.done)[0].result.text();
  EXPECT_EQ(result.embeddings().digest(), "embeddings");
  EXPECT_EQ(result.render_ms(), 30U);
  EXPECT_EQ(result.peak_bytes(), 40U);
}

TEST(Session, TellsOfEachStepOfABankAndOfAllOnceMoreAfterAWelcome) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(IdentityGrant(1, 0));
  bench.Do(BankStepStored{run.run, 0, {}});
  bench.Do(BankStepStored{run.run, 1, Blob("step1")});
  ASSERT_EQ(bench.All(WorkerMessage::kBankStep).size(), 2U);
  EXPECT_EQ(bench.All(WorkerMessage::kBankStep)[1].bank_step().blob().digest(), "step1");
  EXPECT_EQ(bench.All(WorkerMessage::kBankStep)[1].bank_step().token().number(), 1U);
  bench.Do(Disconnected{});
  bench.Do(BankStepStored{run.run, 2, Blob("step2")});
  EXPECT_EQ(bench.All(WorkerMessage::kBankStep).size(), 2U);
  bench.done.clear();
  farm::v1::Welcome welcome;
  farm::v1::HeldVerdict* verdict = welcome.add_held();
  *verdict->mutable_token() = Token(1);
  *verdict->mutable_task() = run.task;
  verdict->set_keep(true);
  bench.Do(Connected{});
  bench.Welcome(welcome);
  EXPECT_EQ(bench.All(WorkerMessage::kBankStep).size(), 3U);
}

TEST(Session, FramesFollowAWriterAndAnEngineThatWaitsForItIsNotHung) {
  Bench bench;
  bench.Start();
  farm::v1::CoordinatorMessage grant = FramesGrant(1, 0, 0, 1);
  farm::v1::FramesWork* work = grant.mutable_grant()->mutable_work()->mutable_frames();
  work->mutable_settings()->set_steps(2);
  farm::v1::Bank* bank = work->add_banks();
  bank->set_character(3);
  bank->set_growing(true);
  const StartRun run = bench.StartGrant(grant);
  const auto grow = [&](uint32_t character, uint32_t step) {
    farm::v1::CoordinatorMessage message;
    *message.mutable_bank_grown()->mutable_token() = Token(1);
    message.mutable_bank_grown()->set_character(character);
    message.mutable_bank_grown()->set_step(step);
    *message.mutable_bank_grown()->mutable_blob() = Blob("step");
    message.mutable_bank_grown()->mutable_writer()->set_address("unix:/there");
    return Bench::Of<Follow>(bench.Hear(std::move(message)));
  };
  ASSERT_EQ(grow(3, 0).size(), 1U);
  EXPECT_EQ(grow(3, 0)[0].writer.address(), "unix:/there");
  EXPECT_TRUE(grow(4, 0).empty()) << "it reads no such bank";
  EXPECT_TRUE(grow(3, 9).empty()) << "nor such a step";
  bench.Wait(Limits().unknown_silence_ms * 3);
  EXPECT_TRUE(bench.All(WorkerMessage::kFault).empty());
  grow(3, 1);
  bench.Wait(Limits().unknown_silence_ms * 3);
  ASSERT_EQ(bench.All(WorkerMessage::kFault).size(), 1U) << "nothing more to wait for";
  EXPECT_EQ(bench.All(WorkerMessage::kFault)[0].fault().failure().kind(), farm::v1::HUNG);
}

TEST(Session, AStepThatCannotBeHadEndsTheGroupThatFollows) {
  Bench bench;
  bench.Start();
  farm::v1::CoordinatorMessage grant = FramesGrant(1, 0, 0, 2);
  grant.mutable_grant()->mutable_work()->mutable_frames()->add_banks()->set_growing(true);
  bench.StartGrant(grant);
  farm::v1::Failure failure;
  failure.set_kind(farm::v1::BLOB_UNAVAILABLE);
  bench.Do(FollowFailed{Token(1), failure});
  ASSERT_EQ(bench.All(WorkerMessage::kFault).size(), 1U);
  EXPECT_EQ(bench.All(WorkerMessage::kFault)[0].fault().tasks_size(), 2);
  EXPECT_EQ(Bench::Of<StopEngine>(bench.done).size(), 1U) << "its engine waits for nothing";
}

TEST(Session, TrimsOnlyWhatHasNotStarted) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 3));
  bench.Hear(Trim(1, {0, 1, 9}));
  ASSERT_EQ(bench.All(WorkerMessage::kTrimReply).size(), 1U);
  const farm::v1::TrimReply reply = bench.All(WorkerMessage::kTrimReply)[0].trim_reply();
  ASSERT_EQ(reply.released_size(), 1);
  EXPECT_EQ(reply.released(0).number(), 1U);
  bench.Do(Stored(run.run, 0));
  const auto next = Bench::Of<StartRun>(bench.Do(RunEnded{run.run, 0, 0}));
  ASSERT_EQ(next.size(), 1U);
  EXPECT_EQ(next[0].work.frames().frames(0).panel(), 2U);
}

TEST(Session, AnswersATrimOfWhatItNoLongerHolds) {
  Bench bench;
  bench.Start();
  bench.Hear(Trim(9, {0}));
  ASSERT_EQ(bench.All(WorkerMessage::kTrimReply).size(), 1U);
  EXPECT_EQ(bench.All(WorkerMessage::kTrimReply)[0].trim_reply().released_size(), 0);
}

TEST(Session, StopsTheEngineOnlyWhereARevokeLeavesItNothing) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 4, /*batch=*/2));
  EXPECT_TRUE(Bench::Of<StopEngine>(bench.Hear(Revoke(1, {0, 3}))).empty());
  const Actions actions = bench.Hear(Revoke(1));
  EXPECT_EQ(Bench::Of<StopEngine>(actions).size(), 1U);
  EXPECT_EQ(Bench::Of<Release>(actions).size(), 1U);
  bench.Do(Stored(run.run, 0));
  EXPECT_EQ(bench.session.outbox_size(), 0U);
  bench.Do(EngineEnded{0, {}});
  EXPECT_TRUE(bench.All(WorkerMessage::kFault).empty()) << "its end was our wish";
  EXPECT_EQ(Bench::Of<StartEngine>(bench.Do(Tick{})).size(), 1U);
}

TEST(Session, ReportsAnAbortForTheSliceAndGoesOnWithTheRestOnANewEngine) {
  Bench bench;
  bench.Start();
  bench.StartGrant(FramesGrant(1, 0, 0, 2));
  farm::v1::Failure failure;
  failure.set_kind(farm::v1::ENGINE_ABORTED);
  bench.Do(EngineEnded{0, failure});
  ASSERT_EQ(bench.All(WorkerMessage::kFault).size(), 1U);
  EXPECT_EQ(bench.All(WorkerMessage::kFault)[0].fault().tasks_size(), 1);
  EXPECT_TRUE(Bench::Of<StartEngine>(bench.Do(Tick{})).empty()) << "after a pause";
  bench.Wait(1000);
  EXPECT_EQ(Bench::Of<StartEngine>(bench.done).size(), 1U);
  const auto runs = Bench::Of<StartRun>(bench.Do(EngineReady{0}));
  ASSERT_EQ(runs.size(), 1U);
  EXPECT_EQ(runs[0].work.frames().frames(0).panel(), 1U);
}

TEST(Session, GivesItsGroupsBackWhenNoEngineComesUp) {
  Bench bench;
  bench.Start();
  bench.Hear(FramesGrant(1, 0, 0, 2));
  farm::v1::Failure failure;
  failure.set_kind(farm::v1::ENGINE_ABORTED);
  failure.set_message("cannot load libtorch");
  for (int i = 0; i < 3; ++i) {
    bench.Do(EngineEnded{0, failure});
    bench.Wait(60'000);
  }
  ASSERT_EQ(bench.All(WorkerMessage::kFault).size(), 1U);
  const farm::v1::TaskFault fault = bench.All(WorkerMessage::kFault)[0].fault();
  EXPECT_EQ(fault.failure().kind(), farm::v1::LOST);
  EXPECT_NE(fault.failure().message().find("cannot load libtorch"), std::string::npos);
  EXPECT_EQ(fault.tasks_size(), 2);
}

TEST(Session, OutOfMemoryReturnsTheWholeGroupForAnotherPlan) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 3));
  farm::v1::Failure failure;
  failure.set_kind(farm::v1::OUT_OF_MEMORY);
  bench.Do(RunFailed{run.run, failure});
  ASSERT_EQ(bench.All(WorkerMessage::kFault).size(), 1U);
  EXPECT_EQ(bench.All(WorkerMessage::kFault)[0].fault().tasks_size(), 3);
  EXPECT_EQ(bench.session.held_tasks(), 0U);
}

TEST(Session, StopsAnEngineThatIsSilentTooLongAndReportsItHung) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 1));
  bench.Wait(1000);
  bench.Do(StepReached{run.run, {0}, 1, 100});
  bench.Wait(500);
  bench.Do(StepReached{run.run, {0}, 2, 100});
  bench.Wait(Limits().least_silence_ms - 1000);
  EXPECT_TRUE(Bench::Of<StopEngine>(bench.done).empty());
  bench.Wait(2000);
  EXPECT_EQ(Bench::Of<StopEngine>(bench.done).size(), 1U);
  ASSERT_EQ(bench.All(WorkerMessage::kFault).size(), 1U);
  EXPECT_EQ(bench.All(WorkerMessage::kFault)[0].fault().failure().kind(), farm::v1::HUNG);
  bench.Wait(3000);
  EXPECT_EQ(bench.All(WorkerMessage::kHeartbeat).back().heartbeat().held_size(), 0) << "its lease is not renewed";
}

TEST(Session, DoesNotTakeTheMachinesSleepForAHungEngine) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 1));
  bench.Do(StepReached{run.run, {0}, 1, 100});
  bench.Do(StepReached{run.run, {0}, 2, 100});
  bench.now_ms += 8 * 3600 * 1000;
  bench.Wait(1000);
  EXPECT_TRUE(Bench::Of<StopEngine>(bench.done).empty());
}

TEST(Session, ShowsProgressAtMostFourTimesASecond) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 1));
  for (uint32_t step = 1; step <= 100; ++step) {
    bench.now_ms += 10;
    bench.Do(StepReached{run.run, {0}, step, 100});
  }
  EXPECT_LE(bench.All(WorkerMessage::kProgress).size(), 6U);
  EXPECT_EQ(bench.All(WorkerMessage::kProgress).back().progress().step(), 100U);
}

TEST(Session, GoesOnRenderingWithoutACoordinatorAndStopsWhatWelcomeDrops) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 2));
  bench.Do(Disconnected{});
  bench.Do(Stored(run.run, 0));
  ASSERT_EQ(Bench::Of<StartRun>(bench.Do(RunEnded{run.run, 0, 0})).size(), 1U);
  bench.Do(Connected{});
  const farm::v1::Hello hello = bench.All(WorkerMessage::kHello).back().hello();
  ASSERT_EQ(hello.held_size(), 1);
  EXPECT_EQ(hello.held(0).task().number(), 1U);
  EXPECT_TRUE(hello.held(0).started());
  farm::v1::Welcome welcome;
  farm::v1::HeldVerdict* verdict = welcome.add_held();
  *verdict->mutable_token() = Token(1);
  *verdict->mutable_task() = FrameTask(1);
  verdict->set_keep(false);
  bench.Welcome(welcome);
  EXPECT_EQ(Bench::Of<StopEngine>(bench.done).size(), 1U);
  EXPECT_EQ(bench.session.held_tasks(), 0U);
}

TEST(Session, AdmitsToItsCacheWhomTheCoordinatorNamesAndNobodyOnceItHasBeenAwayForALease) {
  Self self;
  self.node_id = "node";
  self.peer_port = 7860;
  self.peer_host = "mini.local";
  Session session(std::move(self), {});
  int64_t now_ms = 1000;
  std::vector<Admit> admits;
  const auto step = [&](Event event) {
    const Actions actions = session.Step(now_ms, std::move(event));
    for (const farm::v1::WorkerMessage& message : Bench::Sent(actions)) {
      if (!message.has_hello()) continue;
      EXPECT_EQ(message.hello().peer_port(), 7860u);
      EXPECT_EQ(message.hello().peer_host(), "mini.local");
    }
    admits = Bench::Of<Admit>(actions);
  };
  const auto hear = [&](const farm::v1::CoordinatorMessage& message) { step(CoordinatorSaid{message}); };
  farm::v1::CoordinatorMessage welcome, change;
  welcome.mutable_welcome()->set_lease_ms(kLeaseMs);
  welcome.mutable_welcome()->add_readers("one");
  change.mutable_readers()->add_removed("one");
  change.mutable_readers()->add_added("two");

  step(Connected{});
  hear(change);
  EXPECT_TRUE(admits.empty()) << "before Welcome, which names all";
  hear(welcome);
  ASSERT_EQ(admits.size(), 1u);
  EXPECT_TRUE(admits[0].whole);
  EXPECT_EQ(admits[0].change.added(0), "one");
  hear(change);
  ASSERT_EQ(admits.size(), 1u);
  EXPECT_FALSE(admits[0].whole);
  EXPECT_EQ(admits[0].change.removed(0), "one");
  EXPECT_EQ(admits[0].change.added(0), "two");

  step(Disconnected{});
  now_ms += kLeaseMs - 1;
  step(Connected{});  // nobody welcomes it
  step(Tick{});
  EXPECT_TRUE(admits.empty());
  now_ms += 1;
  step(Tick{});
  ASSERT_EQ(admits.size(), 1u);
  EXPECT_TRUE(admits[0].whole);
  EXPECT_TRUE(admits[0].change.added().empty());
  step(Tick{});
  EXPECT_TRUE(admits.empty()) << "once";
  hear(welcome);
  ASSERT_EQ(admits.size(), 1u);
  EXPECT_EQ(admits[0].change.added(0), "one");
}

TEST(Session, ReportsAFaultThatHappenedWhileNobodyListened) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 1));
  bench.Do(Disconnected{});
  farm::v1::Failure failure;
  failure.set_kind(farm::v1::OUT_OF_MEMORY);
  bench.Do(RunFailed{run.run, failure});
  bench.Do(Connected{});
  EXPECT_EQ(bench.All(WorkerMessage::kHello).back().hello().held_size(), 1);
  EXPECT_TRUE(bench.All(WorkerMessage::kFault).empty());
  bench.Welcome({});
  EXPECT_EQ(bench.All(WorkerMessage::kFault).size(), 1U);
}

TEST(Session, DrainsByFinishingWhatRunsAndGivingTheRestBack) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 0, 2));
  bench.Hear(FramesGrant(2, 0, 5, 1));
  const std::vector<WorkerMessage> last = Bench::Sent(bench.Do(Drain{}));
  // What has begun is told first: the coordinator gives away the rest of what Leaving names.
  ASSERT_EQ(last.size(), 2U);
  ASSERT_EQ(last[0].heartbeat().held_size(), 3);
  EXPECT_TRUE(last[0].heartbeat().held(0).started());
  EXPECT_FALSE(last[0].heartbeat().held(1).started());
  EXPECT_EQ(last[1].leaving().released_size(), 2);
  EXPECT_EQ(bench.session.held_tasks(), 1U);
  bench.Do(Stored(run.run, 0));
  bench.Do(RunEnded{run.run, 0, 0});
  EXPECT_TRUE(Bench::Of<Drained>(bench.done).empty()) << "the result is not delivered yet";
  bench.Do(Persisted{Token(1), FrameTask(0)});
  bench.Do(Uploaded{"image0"});
  bench.Do(Uploaded{"latents0"});
  EXPECT_EQ(Bench::Of<Drained>(bench.Hear(Verdict(1, FrameTask(0), farm::v1::ACCEPTED))).size(), 1U);
}

TEST(Session, LeavesAtOnceWhereNothingRunsAndNobodyListens) {
  Bench bench;
  EXPECT_EQ(Bench::Of<Drained>(bench.Do(Drain{})).size(), 1U);
}

// ---- An owner who takes the machine back --------------------------------------------------------------------------

}  // namespace
}  // namespace storyfarm::worker
