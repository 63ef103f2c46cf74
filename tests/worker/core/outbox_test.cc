// A finished result's way: disk, blobs, coordinator, answer.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/worker/core/bench.h"

namespace storyfarm::worker {
namespace {

using farm::v1::WorkerMessage;

farm::v1::Result StoredResult(uint32_t panel) {
  farm::v1::Result result;
  *result.mutable_token() = Token(1);
  *result.mutable_task() = FrameTask(panel);
  *result.mutable_frame() = Frame(panel);
  return result;
}

void FinishFrame(Bench* bench, uint64_t run, uint32_t panel) {
  FrameStored stored;
  stored.run = run;
  stored.result = Frame(panel);
  bench->Do(stored);
  bench->Do(RunEnded{run, 5, 6});
}

void UploadAll(Bench* bench, uint32_t panel) {
  bench->Do(Uploaded{"image" + std::to_string(panel)});
  bench->Do(Uploaded{"latents" + std::to_string(panel)});
}

TEST(Outbox, SendsAResultOnlyWhenItIsOnDiskAndItsBlobsAreUp) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 4, 1));
  FinishFrame(&bench, run.run, 4);
  EXPECT_EQ(Bench::Of<Persist>(bench.done).size(), 1U);
  EXPECT_EQ(Bench::Of<Upload>(bench.done).size(), 2U);
  UploadAll(&bench, 4);
  EXPECT_TRUE(bench.All(WorkerMessage::kResult).empty());
  bench.Do(Persisted{Token(1), FrameTask(4)});
  ASSERT_EQ(bench.All(WorkerMessage::kResult).size(), 1U);
  EXPECT_EQ(bench.All(WorkerMessage::kResult)[0].result().frame().panel(), 4U);
}

TEST(Outbox, SendsSoManyResultsAtATimeThatAHeartbeatNeverWaitsBehindHoursOfWork) {
  std::vector<farm::v1::Result> restored;
  for (uint32_t panel = 0; panel < 40; ++panel) restored.push_back(StoredResult(panel));
  Bench bench(1, restored);
  bench.Start();
  for (uint32_t panel = 0; panel < 40; ++panel) UploadAll(&bench, panel);
  const size_t most = Limits().unanswered_results;
  ASSERT_LT(most, 40U);
  EXPECT_EQ(bench.All(WorkerMessage::kResult).size(), most);
  for (uint32_t panel = 0; panel < 40; ++panel) {
    EXPECT_EQ(bench.All(WorkerMessage::kResult).size(), std::min<size_t>(40, most + panel));
    bench.Hear(Verdict(1, FrameTask(panel), farm::v1::ACCEPTED));
  }
  EXPECT_EQ(bench.session.outbox_size(), 0U);
}

TEST(Outbox, ClearsForAcceptedAndForStaleAndForNothingElse) {
  for (const auto verdict : {farm::v1::ACCEPTED, farm::v1::STALE}) {
    Bench bench(1, {StoredResult(4)});
    bench.Start();
    UploadAll(&bench, 4);
    EXPECT_EQ(bench.session.outbox_size(), 1U);
    EXPECT_TRUE(Bench::Of<Clear>(bench.done).empty());
    bench.Hear(Verdict(1, FrameTask(5), verdict));
    EXPECT_EQ(bench.session.outbox_size(), 1U) << "another task's verdict";
    bench.Hear(Verdict(1, FrameTask(4), verdict));
    EXPECT_EQ(Bench::Of<Clear>(bench.done).size(), 1U);
    EXPECT_EQ(bench.session.outbox_size(), 0U);
  }
}

TEST(Outbox, SendsAgainWhatStaysWithoutAnAnswerOnALiveStream) {
  Bench bench(1, {StoredResult(4)});
  bench.Start();
  UploadAll(&bench, 4);
  ASSERT_EQ(bench.All(WorkerMessage::kResult).size(), 1U);
  bench.Wait(Limits().answer_ms - kTickMs);
  EXPECT_EQ(bench.All(WorkerMessage::kResult).size(), 1U);
  bench.Wait(2 * kTickMs);
  EXPECT_EQ(bench.All(WorkerMessage::kResult).size(), 2U);
  bench.Hear(Verdict(1, FrameTask(4), farm::v1::ACCEPTED));
  bench.Wait(2 * Limits().answer_ms);
  EXPECT_EQ(bench.All(WorkerMessage::kResult).size(), 2U);
}

TEST(Outbox, UploadsAgainWhatTheCoordinatorLacksAndSendsAgain) {
  Bench bench(1, {StoredResult(4)});
  bench.Start();
  UploadAll(&bench, 4);
  const Actions actions = bench.Hear(Verdict(1, FrameTask(4), farm::v1::BLOBS_MISSING, {"image4"}));
  ASSERT_EQ(Bench::Of<Upload>(actions).size(), 1U);
  EXPECT_EQ(Bench::Of<Upload>(actions)[0].blob.digest(), "image4");
  EXPECT_EQ(bench.All(WorkerMessage::kResult).size(), 1U);
  bench.Do(Uploaded{"image4"});
  EXPECT_EQ(bench.All(WorkerMessage::kResult).size(), 2U);
}

TEST(Outbox, TriesAFailedUploadAgainWithGrowingPauses) {
  Bench bench(1, {StoredResult(4)});
  bench.Start();
  bench.Do(Uploaded{"latents4"});
  bench.Do(UploadFailed{"image4", "connection lost", false});
  const size_t before = Bench::Of<Upload>(bench.done).size();
  bench.Wait(750);
  EXPECT_EQ(Bench::Of<Upload>(bench.done).size(), before);
  bench.Wait(500);
  EXPECT_EQ(Bench::Of<Upload>(bench.done).size(), before + 1);
  bench.Do(UploadFailed{"image4", "connection lost", false});
  bench.Wait(1500);
  EXPECT_EQ(Bench::Of<Upload>(bench.done).size(), before + 1);
  bench.Wait(1000);
  EXPECT_EQ(Bench::Of<Upload>(bench.done).size(), before + 2);
}

TEST(Outbox, ReportsATaskWhoseFilesAreGoneFromTheCache) {
  Bench bench(1, {StoredResult(4)});
  bench.Start();
  bench.Do(Uploaded{"latents4"});
  bench.Do(UploadFailed{"image4", "evicted", true});
  ASSERT_EQ(bench.All(WorkerMessage::kResult).size(), 1U) << "the coordinator may have the blob from before";
  bench.Hear(Verdict(1, FrameTask(4), farm::v1::BLOBS_MISSING, {"image4"}));
  ASSERT_EQ(bench.All(WorkerMessage::kFault).size(), 1U);
  EXPECT_EQ(bench.All(WorkerMessage::kFault)[0].fault().failure().kind(), farm::v1::BLOB_UNAVAILABLE);
  EXPECT_EQ(bench.session.outbox_size(), 0U);
}

TEST(Outbox, ReportsATaskWhoseResultCouldNotBeWritten) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 4, 1));
  FinishFrame(&bench, run.run, 4);
  farm::v1::Failure failure;
  failure.set_kind(farm::v1::DISK_FULL);
  bench.Do(PersistFailed{Token(1), FrameTask(4), failure});
  ASSERT_EQ(bench.All(WorkerMessage::kFault).size(), 1U);
  EXPECT_EQ(bench.All(WorkerMessage::kFault)[0].fault().failure().kind(), farm::v1::DISK_FULL);
  UploadAll(&bench, 4);
  EXPECT_TRUE(bench.All(WorkerMessage::kResult).empty());
}

TEST(Outbox, SurvivesADisconnectionAndIsNamedInEveryHello) {
  Bench bench;
  bench.Start();
  const StartRun run = bench.StartGrant(FramesGrant(1, 0, 4, 1));
  bench.Do(Disconnected{});
  FinishFrame(&bench, run.run, 4);
  bench.Do(Persisted{Token(1), FrameTask(4)});
  bench.Do(Connected{});
  const auto hellos = bench.All(WorkerMessage::kHello);
  ASSERT_EQ(hellos.size(), 2U);
  ASSERT_EQ(hellos[1].hello().outbox_size(), 1);
  EXPECT_EQ(hellos[1].hello().held_size(), 0);
  EXPECT_TRUE(Bench::Of<Upload>(bench.done).empty()) << "nothing before Welcome";
  bench.Welcome({});
  UploadAll(&bench, 4);
  EXPECT_EQ(bench.All(WorkerMessage::kResult).size(), 1U);
  bench.Do(Disconnected{});
  bench.Do(Connected{});
  bench.Welcome({});
  EXPECT_EQ(bench.All(WorkerMessage::kResult).size(), 2U) << "unanswered: sent again";
}

TEST(Outbox, ObeysAWelcomeThatCallsAnEntryStale) {
  Bench bench(1, {StoredResult(4), StoredResult(5)});
  bench.Do(Connected{});
  farm::v1::Welcome welcome;
  *welcome.add_outbox() = Verdict(1, FrameTask(4), farm::v1::STALE).verdict();
  bench.Welcome(welcome);
  EXPECT_EQ(Bench::Of<Clear>(bench.done).size(), 1U);
  for (const Upload& upload : Bench::Of<Upload>(bench.done)) EXPECT_EQ(upload.blob.digest().back(), '5');
  EXPECT_EQ(bench.session.outbox_size(), 1U);
}

TEST(Outbox, RenewsTheLeaseOfWhatItStillOwes) {
  Bench bench(1, {StoredResult(4)});
  bench.Start();
  const auto beats = bench.All(WorkerMessage::kHeartbeat);
  ASSERT_FALSE(beats.empty());
  ASSERT_EQ(beats.back().heartbeat().held_size(), 1);
  EXPECT_EQ(beats.back().heartbeat().held(0).task().number(), 4U);
}

}  // namespace
}  // namespace storyfarm::worker
