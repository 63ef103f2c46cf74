// Tokens, leases, Hellos and restarts: no frame lost, none taken twice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;

TEST(Fencing, AWorkerThatDiesLosesItsGroupToAnother) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 8));
  h.FinishOne("a");
  h.Step(WorkerGone{h.session_of["a"]});
  const size_t lost = h.HeldTasks("a");
  ASSERT_GT(lost, 0u);
  h.holds["a"].clear();
  h.Connect("b");
  h.Advance(10000);
  h.Heartbeat("b");
  EXPECT_EQ(h.Status("j-1").frames_done(), 1u);
  h.Advance(6000);
  h.session_of.erase("a");
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  EXPECT_EQ(h.Status("j-1").frames_attempted(), 8u + lost);
  h.CheckReplay();
}

TEST(Fencing, AnotherProcessWithTheSameNodeIdIsRefusedWhileTheFirstOneIsAlive) {
  Harness h;
  farm::v1::Hello hello = h.HelloOf("a");
  hello.set_process(1);
  const uint64_t first = h.ConnectWith(hello);
  h.Submit(Story("j-1", 4));
  ASSERT_GT(h.HeldTasks("a"), 0u);
  hello.set_process(2);
  const uint64_t copy = h.ConnectWith(hello);
  EXPECT_TRUE(absl::IsAlreadyExists(h.closed[copy])) << h.closed[copy];
  EXPECT_THAT(std::string(h.closed[copy].message()), testing::HasSubstr("delete the file node-id"));
  EXPECT_EQ(h.closed.count(first), 0u) << "whoever was there first stays";
  h.session_of["a"] = first;
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  EXPECT_EQ(h.Status("j-1").frames_attempted(), 4u);

  // The same process again replaces its own stream, and another one follows a process that is silent for a lease.
  hello.set_process(1);
  const uint64_t again = h.ConnectWith(hello);
  EXPECT_EQ(h.closed.count(again), 0u);
  EXPECT_TRUE(absl::IsAborted(h.closed[first]));
  h.Advance(20000);
  hello.set_process(3);
  const uint64_t restarted = h.ConnectWith(hello);
  EXPECT_EQ(h.closed.count(restarted), 0u);
  h.CheckReplay();
}

TEST(Fencing, EveryWordOfANodeRenewsWhatItListedLastAndWhatItWasGrantedSince) {
  Harness h;
  h.Connect("a", 1000);
  h.Submit(Story("j-1", 40));
  ASSERT_EQ(h.holds["a"].size(), 2u);  // one group runs, one waits
  const auto came_back = [&h] {
    return std::count_if(h.records.begin(), h.records.end(),
                         [](const farm::v1::Record& record) { return record.has_task_returned(); });
  };
  // Only results of the first group are heard: its heartbeats wait behind them.
  for (int i = 0; i < 4; ++i) {
    h.Advance(10000);
    h.FinishOne("a");
    ASSERT_EQ(h.verdicts["a"].back().verdict(), farm::v1::ACCEPTED) << i;
  }
  EXPECT_EQ(came_back(), 0);
  // A list that lacks the second group ends that.
  const auto waiting = static_cast<ptrdiff_t>(h.holds["a"].back().left.size());
  farm::v1::WorkerMessage lacks;
  farm::v1::HeldTask& held = *lacks.mutable_heartbeat()->add_held();
  std::tie(*held.mutable_token(), *held.mutable_task()) = h.First("a");
  for (int i = 0; i < 4; ++i) {
    h.Say("a", lacks);
    h.Advance(5000);
  }
  EXPECT_EQ(came_back(), waiting);
  h.CheckReplay();
}

TEST(Fencing, ALateResultIsTakenIfNobodyElseWasGrantedTheFrame) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  const auto [token, task] = h.First("a");
  h.Advance(20000);  // silent past its lease; the device is not trusted at once, so nobody has the frame
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_READY);
  h.Say("a", ResultFor(h.specs["j-1"], token, task));
  EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::ACCEPTED);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_DONE);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).attempts(), 1u);
  h.CheckReplay();
}

TEST(Fencing, ALateResultIsStaleOnceAnotherNodeHasTheFrame) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  const auto [token, task] = h.First("a");
  h.Advance(16000);
  h.Connect("b");
  ASSERT_EQ(h.HeldTasks("b"), 1u);
  h.Say("a", ResultFor(h.specs["j-1"], token, task));
  EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::STALE);
  h.FinishOne("b");
  EXPECT_EQ(h.verdicts["b"].back().verdict(), farm::v1::ACCEPTED);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).frame().image().digest(), DigestOf("image0b"));
}

TEST(Fencing, ADuplicateResultIsAcknowledgedAndChangesNothing) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 2));
  const auto [token, task] = h.First("a");
  h.FinishOne("a");
  const size_t records = h.records.size();
  h.Say("a", ResultFor(h.specs["j-1"], token, task, "other"));
  EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::ACCEPTED);
  EXPECT_EQ(h.records.size(), records);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).frame().image().digest(), DigestOf("image0a"));
}

TEST(Fencing, AForgedOrUnknownTokenIsStale) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 2));
  auto [token, task] = h.First("a");
  for (const uint64_t number : {uint64_t{0}, token.number() + 1000}) {
    farm::v1::FencingToken wrong = token;
    wrong.set_number(number);
    h.Say("a", ResultFor(h.specs["j-1"], wrong, task));
    EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::STALE);
  }
  farm::v1::FencingToken wrong = token;
  wrong.set_incarnation(7);
  h.Say("a", ResultFor(h.specs["j-1"], wrong, task));
  EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::STALE);
  h.Say("a", ResultFor(h.specs["j-1"], token, Task("j-none", TASK_FRAME, 0)));
  EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::STALE);
  EXPECT_EQ(h.Status("j-1").frames_done(), 0u);
}

TEST(Fencing, ASecondStreamReplacesTheFirstWhichCanRenewNothing) {
  Harness h;
  const uint64_t first = h.Connect("a");
  h.Submit(Story("j-1", 1));
  const auto [token, task] = h.First("a");
  h.Connect("a");
  EXPECT_TRUE(absl::IsAborted(h.closed[first]));
  farm::v1::WorkerMessage beat;
  *beat.mutable_heartbeat()->add_held()->mutable_token() = token;
  *beat.mutable_heartbeat()->mutable_held(0)->mutable_task() = task;
  for (int i = 0; i < 20; ++i) {
    h.Advance(1000);
    h.Step(WorkerSaid{first, beat, {}});
  }
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_READY);
  h.Step(WorkerSaid{first, ResultFor(h.specs["j-1"], token, task), {}});
  EXPECT_EQ(h.Status("j-1").frames_done(), 0u);
}

TEST(Fencing, GrantedFramesThatHelloDoesNotListAreFreeAtOnce) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 3));
  ASSERT_GT(h.HeldTasks("a"), 0u);
  h.holds["a"].clear();  // it restarted without its memory
  h.Connect("a");
  EXPECT_GT(h.HeldTasks("a"), 0u);  // granted again in the same step
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
}

TEST(Fencing, AFrozenNodeThatThawsKeepsWhatNobodyElseGot) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 3));
  const size_t held = h.HeldTasks("a");
  const uint32_t attempts = h.Status("j-1").frames_attempted();
  h.Step(WorkerGone{h.session_of["a"]});
  h.Advance(20000);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_READY);
  h.Connect("a");
  EXPECT_GE(h.HeldTasks("a"), held);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_GRANTED);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).attempts(), 1u);
  EXPECT_GE(h.Status("j-1").frames_attempted(), attempts);
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").frames_attempted(), 3u);  // nothing was rendered twice
  h.CheckReplay();
}

TEST(Fencing, AnOutboxEntryIsAskedForOrStaleAndAcceptedOnce) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 2));
  const auto [token, task] = h.First("a");
  h.Step(WorkerGone{h.session_of["a"]});
  h.Drop("a", token, task);
  farm::v1::OutboxEntry wanted;
  *wanted.mutable_token() = token;
  *wanted.mutable_task() = task;
  farm::v1::OutboxEntry unknown = wanted;
  unknown.mutable_token()->set_number(99);
  h.Connect("a", 100, 8000, {wanted, unknown});
  ASSERT_EQ(h.welcomes["a"].outbox_size(), 1);
  EXPECT_EQ(h.welcomes["a"].outbox(0).token().number(), 99u);
  EXPECT_EQ(h.welcomes["a"].outbox(0).verdict(), farm::v1::STALE);
  h.Say("a", ResultFor(h.specs["j-1"], token, task));
  EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::ACCEPTED);
  // The answer was lost; the node asks again.
  h.Connect("a", 100, 8000, {wanted});
  ASSERT_EQ(h.welcomes["a"].outbox_size(), 1);
  EXPECT_EQ(h.welcomes["a"].outbox(0).verdict(), farm::v1::STALE);
  EXPECT_EQ(h.Status("j-1").frames_attempted(), 2u);
}

TEST(Fencing, AHeartbeatThatNamesWhatOthersHoldIsAnsweredWithRevoke) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  const auto held = h.holds["a"];
  h.Advance(16000);
  h.Connect("b");
  ASSERT_EQ(h.HeldTasks("b"), 1u);
  h.holds["a"] = held;
  h.Heartbeat("a");
  ASSERT_FALSE(h.revokes["a"].empty());
  EXPECT_TRUE(h.holds["a"].empty());
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).node(), "b");
}

TEST(Fencing, HeartbeatsKeepALeaseForEver) {
  Harness h;
  h.Connect("a");
  h.Connect("b");
  h.Submit(Story("j-1", 1));
  const std::string holder = h.holds["a"].empty() ? "b" : "a";
  for (int i = 0; i < 100; ++i) {
    h.Advance(2000);
    h.Heartbeat("a");
    h.Heartbeat("b");
  }
  EXPECT_EQ(h.HeldTasks(holder), 1u);
  EXPECT_EQ(h.Status("j-1").frames_attempted(), 1u);
}

TEST(Fencing, ARestartGivesEveryRunningAttemptOneFreshLease) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 2));
  const uint32_t attempts = h.Status("j-1").frames_attempted();
  h.Restart();
  h.Advance(14000);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 0).state(), farm::v1::TASK_GRANTED);
  h.Connect("a");
  EXPECT_EQ(h.Status("j-1").frames_attempted(), attempts);
  for (const auto& verdict : h.welcomes["a"].held()) EXPECT_TRUE(verdict.keep());
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").frames_attempted(), 2u);
}

TEST(Fencing, AfterARestartWhatNobodyClaimsIsGrantedAgainUnderANewIncarnation) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  const auto [old_token, task] = h.First("a");
  h.holds.clear();
  h.Restart();
  h.Connect("b");
  h.Advance(8000);
  h.Heartbeat("b");
  EXPECT_EQ(h.HeldTasks("b"), 0u);
  h.Advance(8000);
  h.Heartbeat("b");
  h.Advance(250);
  ASSERT_EQ(h.HeldTasks("b"), 1u);
  EXPECT_NE(h.First("b").first.incarnation(), old_token.incarnation());
  h.Connect("a");
  h.Say("a", ResultFor(h.specs["j-1"], old_token, task));
  EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::STALE);
}

TEST(Fencing, ARestartAfterEveryRecordStillFinishesTheJob) {
  // The coordinator dies after each prefix of what it wrote; the workers come back with what they held then.
  Harness whole;
  whole.Connect("a");
  whole.Submit(Story("j-1", 4, 1));
  whole.RunAll();
  const std::vector<farm::v1::Record> records = whole.records;
  for (size_t cut = 2; cut <= records.size(); ++cut) {
    Harness h;
    h.records.assign(records.begin(), records.begin() + static_cast<long>(cut));
    h.specs = whole.specs;
    h.Restart();
    h.Connect("a");
    h.RunAll();
    EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE) << cut;
    EXPECT_EQ(h.Status("j-1").frames_done(), 4u) << cut;
    h.CheckReplay();
  }
}

TEST(Fencing, MissingBlobsAreAskedForAndTheFrameStaysWithItsNode) {
  Harness h;
  h.Connect("a");
  h.Submit(Story("j-1", 1));
  const auto [token, task] = h.First("a");
  h.Say("a", ResultFor(h.specs["j-1"], token, task), {DigestOf("image0")});
  ASSERT_EQ(h.verdicts["a"].back().verdict(), farm::v1::BLOBS_MISSING);
  EXPECT_THAT(h.verdicts["a"].back().missing_digests(), ::testing::ElementsAre(DigestOf("image0")));
  EXPECT_EQ(h.Status("j-1").frames_done(), 0u);
  h.Say("a", ResultFor(h.specs["j-1"], token, task));
  EXPECT_EQ(h.verdicts["a"].back().verdict(), farm::v1::ACCEPTED);
}

TEST(Fencing, TrimmedAndReleasedTasksMoveWithoutCounting) {
  Harness h;
  h.planner.most_batch = 8;
  h.Connect("a");
  h.Submit(Story("j-1", 8));
  const Held held = h.holds["a"].front();
  ASSERT_GT(held.left.size(), 1u);
  farm::v1::WorkerMessage reply;
  *reply.mutable_trim_reply()->mutable_token() = held.grant.token();
  *reply.mutable_trim_reply()->add_released() = held.left.back();
  h.Drop("a", held.grant.token(), held.left.back());
  h.Connect("b", 10000);
  h.Say("a", reply);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, held.left.back().number()).node(), "b");
  farm::v1::WorkerMessage leaving;
  for (const Held& group : h.holds["a"]) *leaving.mutable_leaving()->add_released() = group.grant.token();
  h.holds["a"].clear();
  h.Say("a", leaving);
  h.Step(WorkerGone{h.session_of["a"]});
  h.session_of.erase("a");
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, i).message(), "");
}

}  // namespace
}  // namespace storyfarm::coordinator
