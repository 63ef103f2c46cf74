#include "coordinator/rpc/tally.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/faulty_env.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::Record;

// A clock that stands until it is told to go on.
struct Clock : testing_support::FaultyEnv {
  Clock() : FaultyEnv(base::Env::Real()) { clock_ms = 1000; }
};

class TallyTest : public testing::Test {
 protected:
  void Count(const std::vector<Record>& records) {
    farm::v1::RecordBatch batch;
    for (const Record& record : records) *batch.add_records() = record;
    tally_.Count(batch);
  }
  void Pass(int64_t ms) { env_.clock_ms = env_.clock_ms + ms; }
  farm::v1::Figures Figures() const {
    farm::v1::Figures figures;
    tally_.AddTo(&figures);
    return figures;
  }
  static Record Accepted(const std::string& job) {
    Record record;
    record.mutable_job_accepted()->mutable_spec()->set_job_id(job);
    return record;
  }
  static Record Granted(const std::string& job, uint64_t token, uint32_t frames, uint64_t planned_bytes) {
    Record record;
    farm::v1::Granted& fact = *record.mutable_granted();
    fact.set_job_id(job);
    fact.set_kind(farm::v1::TASK_FRAME);
    for (uint32_t i = 0; i < frames; ++i) fact.add_numbers(i);
    fact.mutable_token()->set_number(token);
    fact.set_planned_bytes(planned_bytes);
    return record;
  }
  static Record Drawn(const std::string& job, uint64_t token, uint64_t render_ms, uint64_t peak_bytes) {
    Record record;
    record.mutable_frame_finished()->set_job_id(job);
    record.mutable_frame_finished()->mutable_token()->set_number(token);
    record.mutable_frame_finished()->mutable_result()->set_render_ms(render_ms);
    record.mutable_frame_finished()->mutable_result()->set_peak_bytes(peak_bytes);
    return record;
  }
  static Record Returned(uint64_t token, farm::v1::FailureKind kind) {
    Record record;
    record.mutable_task_returned()->mutable_task()->set_kind(farm::v1::TASK_FRAME);
    record.mutable_task_returned()->mutable_token()->set_number(token);
    record.mutable_task_returned()->mutable_why()->set_kind(kind);
    return record;
  }
  static Record Ended(const std::string& job, farm::v1::JobState state) {
    Record record;
    record.mutable_job_finished()->set_job_id(job);
    record.mutable_job_finished()->set_state(state);
    return record;
  }
  static uint64_t All(const farm::v1::Distribution& distribution) {
    uint64_t count = 0;
    for (const uint64_t bucket : distribution.counts()) count += bucket;
    return count;
  }

  Clock env_;
  Tally tally_{&env_};
};

TEST_F(TallyTest, CountsAttemptsByHowTheyEnded) {
  Count({Accepted("j-1"), Granted("j-1", 1, 3, 1000)});
  Count({Drawn("j-1", 1, 40, 900), Returned(1, farm::v1::LOST), Returned(1, farm::v1::LOST)});
  const farm::v1::Figures figures = Figures();
  EXPECT_EQ(figures.tasks_granted(), 3u);
  EXPECT_EQ(figures.records(), 5u);
  ASSERT_EQ(figures.attempts_size(), 2);
  EXPECT_EQ(figures.attempts(0).failure(), farm::v1::FAILURE_KIND_UNSPECIFIED);
  EXPECT_EQ(figures.attempts(0).attempts(), 1u);
  EXPECT_EQ(figures.attempts(1).failure(), farm::v1::LOST);
  EXPECT_EQ(figures.attempts(1).attempts(), 2u);
}

TEST_F(TallyTest, MeasuresWaitsAndWorkFromTheRecordsAndTheClock) {
  Count({Accepted("j-1")});
  Pass(2000);
  Count({Granted("j-1", 1, 2, 1000)});
  Pass(700);
  Count({Drawn("j-1", 1, 300, 900)});
  Pass(300);
  Count({Drawn("j-1", 1, 200, 1200), Ended("j-1", farm::v1::JOB_DONE)});
  tally_.Committed(4);
  const farm::v1::Figures figures = Figures();
  EXPECT_EQ(figures.leading_ms(), 3000u);
  EXPECT_DOUBLE_EQ(figures.job_wait_seconds().sum(), 2.0);
  EXPECT_DOUBLE_EQ(figures.job_seconds().sum(), 3.0);
  ASSERT_EQ(figures.attempt_seconds_size(), 1);
  EXPECT_DOUBLE_EQ(figures.attempt_seconds(0).distribution().sum(), 1.7);
  EXPECT_EQ(All(figures.attempt_seconds(0).distribution()), 2u);
  EXPECT_DOUBLE_EQ(figures.work_seconds(0).distribution().sum(), 0.5);
  EXPECT_DOUBLE_EQ(figures.commit_seconds().sum(), 0.004);
  EXPECT_DOUBLE_EQ(figures.peak_over_plan().sum(), 2.1) << "0.9 and 1.2 of the plan";
  ASSERT_EQ(figures.jobs_ended_size(), 1);
  EXPECT_EQ(figures.jobs_ended(0).state(), farm::v1::JOB_DONE);
}

TEST_F(TallyTest, PutsAValueIntoTheBucketWhoseBoundItDoesNotExceed) {
  for (const int64_t ms : {1, 2, 3, 40'000}) tally_.Committed(ms);
  const farm::v1::Distribution commits = Figures().commit_seconds();
  ASSERT_EQ(commits.counts_size(), commits.bounds_size() + 1);
  EXPECT_EQ(commits.counts(0), 1u);                        // <= 0.001
  EXPECT_EQ(commits.counts(1), 1u);                        // <= 0.002
  EXPECT_EQ(commits.counts(2), 1u);                        // <= 0.005
  EXPECT_EQ(commits.counts(commits.counts_size() - 1), 1u);  // above all
}

TEST_F(TallyTest, MeasuresNothingOfWhatAnEarlierCoordinatorGranted) {
  Count({Drawn("j-1", 7, 300, 900), Ended("j-1", farm::v1::JOB_DONE)});
  const farm::v1::Figures figures = Figures();
  EXPECT_EQ(figures.attempts(0).attempts(), 1u);
  EXPECT_EQ(figures.attempt_seconds_size(), 0);
  EXPECT_EQ(All(figures.peak_over_plan()), 0u);
  EXPECT_EQ(All(figures.job_seconds()), 0u);
}

TEST_F(TallyTest, CountsWhatPacksSpared) {
  Record hit, stored, lost;
  hit.mutable_pack_used()->set_job_id("j-1");
  stored.mutable_pack_stored();
  lost.mutable_pack_lost();
  Count({hit, hit, stored, lost});
  EXPECT_EQ(Figures().packs_hit(), 2u);
  EXPECT_EQ(Figures().packs_stored(), 1u);
  EXPECT_EQ(Figures().packs_lost(), 1u);
}

}  // namespace
}  // namespace storyfarm::coordinator
