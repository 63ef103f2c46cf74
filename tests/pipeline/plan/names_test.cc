#include "pipeline/plan/names.h"

#include <gtest/gtest.h>

#include <set>

namespace storyfarm::plan {
namespace {

TEST(Names, ATaskIsItsJobItsKindAndItsNumber) {
  farm::v1::TaskId task;
  task.set_job_id("j-abc");
  task.set_kind(farm::v1::TASK_FRAME);
  task.set_number(12);
  EXPECT_EQ(TaskName(task), "j-abc/frame/12");
  EXPECT_EQ(TaskName("j-abc", farm::v1::TASK_IDENTITY, 0), "j-abc/identity/0");
  EXPECT_EQ(TaskName("j-abc", farm::v1::TASK_PAGE, 3), "j-abc/page/3");
}

TEST(Names, ATasksNameReadsBackAndWhatIsNoneSaysHowToWriteOne) {
  const auto task = ParseTaskName("j-abc/page/3");
  ASSERT_TRUE(task.ok());
  EXPECT_EQ(TaskName(*task), "j-abc/page/3");
  for (const char* wrong : {"", "j-abc", "j-abc/frame", "j-abc/frame/x", "j-abc/panel/1", "/frame/1", "j/frame/1/2"}) {
    const auto none = ParseTaskName(wrong);
    ASSERT_FALSE(none.ok()) << wrong;
    EXPECT_NE(none.status().message().find("JOB/frame/NUMBER"), absl::string_view::npos);
  }
}

TEST(Names, ATokensIncarnationHasAllOfItsDigits) {
  farm::v1::FencingToken token;
  token.set_incarnation(0x9f3a5c0d11e2);
  token.set_number(41);
  EXPECT_EQ(TokenName(token), "00009f3a5c0d11e2-41");
}

TEST(Names, EveryStateHasAWordOfItsOwn) {
  std::set<std::string> jobs;
  for (int state = farm::v1::JOB_QUEUED; state <= farm::v1::JobState_MAX; ++state) {
    jobs.insert(StateName(static_cast<farm::v1::JobState>(state)));
  }
  EXPECT_EQ(jobs, (std::set<std::string>{"queued", "running", "done", "failed", "cancelled"}));
  std::set<std::string> tasks;
  for (int state = farm::v1::TASK_BLOCKED; state <= farm::v1::TaskState_MAX; ++state) {
    tasks.insert(StateName(static_cast<farm::v1::TaskState>(state)));
  }
  EXPECT_EQ(tasks, (std::set<std::string>{"blocked", "ready", "granted", "done", "failed", "cancelled"}));
}

TEST(Names, OnlyCudaDevicesAreCounted) {
  farm::v1::DeviceReport report;
  report.set_backend(farm::v1::CUDA);
  report.set_ordinal(1);
  EXPECT_EQ(DeviceName(report), "cuda:1");
  report.set_backend(farm::v1::MPS);
  EXPECT_EQ(DeviceName(report), "mps");
  report.set_backend(farm::v1::CPU);
  EXPECT_EQ(DeviceName(report), "cpu");
}

}  // namespace
}  // namespace storyfarm::plan
