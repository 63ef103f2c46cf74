// Frames that follow their identities while these are computed: who goes ahead, what a reader hears, and the token rule.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/harness.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::TASK_FRAME;
using farm::v1::TASK_IDENTITY;
using ::testing::SizeIs;

// A farm whose writer computes the identity of j-1 (panels 0 and 1), which panels 2 to 5 read.
struct Wave : Harness {
  // Ten seconds a frame.
  explicit Wave(double writer_tflops = 10, double reader_tflops = 10) {
    farm::v1::JobSpec spec = Story("j-1", 6, 2);
    spec.mutable_story()->mutable_settings()->set_steps(50);
    Submit(spec);
    ConnectServing("writer", writer_tflops);
    ConnectServing("reader", reader_tflops);
    EXPECT_EQ(First("writer").second.kind(), TASK_IDENTITY);
  }
  void ConnectServing(const std::string& node, double tflops) {
    farm::v1::Hello hello = HelloOf(node, tflops);
    hello.set_blob_address("unix:/" + node);
    for (const Held& held : holds[node]) {
      for (const auto& task : held.left) {
        *hello.add_held()->mutable_token() = held.grant.token();
        *hello.mutable_held(hello.held_size() - 1)->mutable_task() = task;
      }
    }
    ConnectWith(hello);
  }
  std::string StepDigest(uint32_t step) { return DigestOf(absl::StrCat("step", step)); }
  // What the last Step told readers.
  std::vector<farm::v1::BankGrown> Told() const {
    std::vector<farm::v1::BankGrown> told;
    for (const OutgoingMessage& message : last.messages) {
      if (message.message.has_bank_grown()) told.push_back(message.message.bank_grown());
    }
    return told;
  }
  void SayStep(const std::string& node, uint32_t step) {
    const auto [token, task] = First(node);
    farm::v1::WorkerMessage message;
    *message.mutable_bank_step()->mutable_token() = token;
    *message.mutable_bank_step()->mutable_task() = task;
    message.mutable_bank_step()->set_step(step);
    if (step > 0) {
      message.mutable_bank_step()->mutable_blob()->set_digest(StepDigest(step));
      message.mutable_bank_step()->mutable_blob()->set_size_bytes(10);
    }
    Say(node, message);
  }
  void SayStepsUntilReaderHolds() {
    SayStep("writer", 0);
    Advance(kTickMs);
    ASSERT_THAT(holds["reader"], SizeIs(1));
  }
};

TEST(Wavefront, AnIdleDeviceFollowsAnIdentityThatHasBegunAndHearsOfEachStep) {
  Wave h;
  EXPECT_THAT(h.holds["reader"], SizeIs(0)) << "the writer has not begun";
  h.SayStepsUntilReaderHolds();
  const farm::v1::Grant grant = h.holds["reader"].front().grant;
  ASSERT_EQ(grant.work().frames().banks_size(), 1);
  EXPECT_TRUE(grant.work().frames().banks(0).growing());
  EXPECT_EQ(grant.work().frames().banks(0).identity_frames(), 2u);
  h.SayStep("writer", 1);
  ASSERT_THAT(h.Told(), SizeIs(grant.tasks_size()));
  EXPECT_EQ(h.Told()[0].step(), 1u);
  EXPECT_EQ(h.Told()[0].blob().digest(), h.StepDigest(1));
  EXPECT_EQ(h.Told()[0].token().number(), grant.token().number());
  EXPECT_EQ(h.Told()[0].writer().address(), "unix:/writer");
  h.CheckReplay();
  h.FinishOne("writer");
  EXPECT_THAT(h.Told(), SizeIs(grant.tasks_size())) << "all of the bank, should a word have been lost";
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, 2).attempts(), 1u);
  h.CheckReplay();
}

TEST(Wavefront, AFrameThatIsDoneBeforeItsIdentitysResultIsTakenStays) {
  Wave h;
  h.SayStepsUntilReaderHolds();
  const uint32_t panel = h.First("reader").second.number();
  h.FinishOne("reader");
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, panel).state(), farm::v1::TASK_DONE);
  h.CheckReplay();
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
}

TEST(Wavefront, WhereTheWriterEndsWithoutAResultItsReadersStartAgainAndTheirLateResultsAreVoid) {
  Wave h;
  h.SayStepsUntilReaderHolds();
  const auto [token, task] = h.First("reader");
  h.Fault("writer", farm::v1::ENGINE_ABORTED);
  ASSERT_THAT(h.revokes["reader"], SizeIs(1));
  EXPECT_EQ(h.TaskOf("j-1", TASK_FRAME, task.number()).state(), farm::v1::TASK_BLOCKED);
  h.Say("reader", ResultFor(h.specs["j-1"], token, task, "reader"));
  ASSERT_FALSE(h.verdicts["reader"].empty());
  EXPECT_EQ(h.verdicts["reader"].back().verdict(), farm::v1::STALE) << "it belongs to a writer that is replaced";
  h.CheckReplay();
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
  EXPECT_EQ(h.Status("j-1").frames_failed(), 0u);
  h.CheckReplay();
}

TEST(Wavefront, AWriterWhoseLeaseEndsTakesItsReadersAlong) {
  Wave h;
  h.SayStepsUntilReaderHolds();
  const uint32_t panel = h.First("reader").second.number();
  for (int i = 0; i < 20; ++i) {
    h.Heartbeat("reader");
    h.Advance(1000);
  }
  EXPECT_THAT(h.revokes["reader"], SizeIs(1));
  EXPECT_NE(h.TaskOf("j-1", TASK_FRAME, panel).state(), farm::v1::TASK_DONE);
  h.CheckReplay();
}

TEST(Wavefront, AMachineThatComesBackWithoutWriterAndReaderLosesEachOnce) {
  Harness h;
  farm::v1::JobSpec spec = Story("j-1", 6, 2);
  spec.mutable_story()->mutable_settings()->set_steps(50);
  h.Submit(spec);
  farm::v1::Hello hello = h.HelloOf("both", 10);
  *hello.add_devices() = Harness::Gpu(10);
  hello.mutable_devices(1)->set_index(1);
  h.ConnectWith(hello);
  ASSERT_EQ(h.First("both").second.kind(), TASK_IDENTITY);
  farm::v1::WorkerMessage step;
  *step.mutable_bank_step()->mutable_token() = h.First("both").first;
  *step.mutable_bank_step()->mutable_task() = h.First("both").second;
  h.Say("both", step);
  h.Advance(kTickMs);
  ASSERT_THAT(h.holds["both"], SizeIs(2));
  h.holds["both"].clear();
  h.ConnectWith(hello);
  h.CheckReplay();
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
}

TEST(Wavefront, AfterARestartTheWriterTellsItsStepsAgainAndTheReaderHearsThem) {
  Wave h;
  h.SayStepsUntilReaderHolds();
  h.Restart();
  h.ConnectServing("reader", 10);
  EXPECT_THAT(h.Told(), SizeIs(0)) << "nobody knows of a step";
  ASSERT_THAT(h.holds["reader"], SizeIs(1)) << "it goes on";
  h.ConnectServing("writer", 10);
  h.SayStep("writer", 0);
  h.SayStep("writer", 1);
  EXPECT_THAT(h.Told(), SizeIs(h.holds["reader"].front().grant.tasks_size()));
  // The reader's stream breaks: what was told meanwhile is told again.
  h.ConnectServing("reader", 10);
  EXPECT_THAT(h.Told(), SizeIs(2 * h.holds["reader"].front().grant.tasks_size()));
  h.RunAll();
  EXPECT_EQ(h.Status("j-1").state(), farm::v1::JOB_DONE);
}

TEST(Wavefront, ASlowDeviceDoesNotBeginWhatAFastOneWillHaveDoneSooner) {
  Wave h(1000, 1);
  h.SayStep("writer", 0);
  h.Advance(kTickMs);
  EXPECT_THAT(h.holds["reader"], SizeIs(0));
}

TEST(Wavefront, APausedJobSendsNothingAhead) {
  Wave h;
  h.Step(ChangeJob{70, "j-1", true, {}});
  h.SayStep("writer", 0);
  h.Advance(kTickMs);
  EXPECT_THAT(h.holds["reader"], SizeIs(0));
}

}  // namespace
}  // namespace storyfarm::coordinator
