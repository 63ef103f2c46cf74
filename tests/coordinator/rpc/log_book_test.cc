// The coordinator's log as people at other machines read it.
#include "coordinator/rpc/log_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "pipeline/plan/names.h"
#include "tests/coordinator/rpc/scripted_worker.h"
#include "tests/coordinator/rpc/test_farm.h"

namespace storyfarm::coordinator {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Written {
 public:
  explicit Written(size_t most = kLogBookLines)
      : book(5, most),
        log(
            base::LogFormat::kText, [](std::string_view) {}, [this] { return ++clock; },
            [this](const base::LogLine& line) { book.Add(line); }) {}

  std::vector<std::string> Read(const farm::v1::ReadLogRequest& request, const std::vector<std::string>& nodes = {}) {
    last = book.Read(request, nodes);
    std::vector<std::string> events;
    for (const auto& line : last.lines()) events.push_back(line.event());
    return events;
  }

  uint64_t clock = 0;
  LogBook book;
  base::Log log;
  farm::v1::ReadLogResponse last;
};

TEST(LogBook, GivesTheNewestLinesAndThenWhatCameSince) {
  Written written;
  for (const char* event : {"one", "two", "three"}) written.log.Info(event);
  farm::v1::ReadLogRequest request;
  request.set_most(2);
  EXPECT_THAT(written.Read(request), ElementsAre("two", "three"));
  request.set_after(written.last.next());
  request.set_incarnation(written.last.incarnation());
  EXPECT_THAT(written.Read(request), IsEmpty());
  for (const char* event : {"four", "five", "six"}) written.log.Warning(event, {{"why", "so"}});
  EXPECT_THAT(written.Read(request), ElementsAre("four", "five"));
  EXPECT_EQ(written.last.lines(0).level(), "warning");
  EXPECT_EQ(written.last.lines(0).unix_ms(), 4u);
  EXPECT_EQ(written.last.lines(0).fields(0).value(), "so");
  request.set_after(written.last.next());
  EXPECT_THAT(written.Read(request), ElementsAre("six"));
}

TEST(LogBook, NumbersOfAnotherProcessCountForNothing) {
  Written written;
  written.log.Info("new");
  farm::v1::ReadLogRequest request;
  request.set_after(900);
  request.set_incarnation(4);
  EXPECT_THAT(written.Read(request), ElementsAre("new"));
}

TEST(LogBook, ForgetsTheOldestAndSaysSo) {
  Written written(3);
  for (int i = 1; i <= 10; ++i) written.log.Info(absl::StrCat("line ", i));
  farm::v1::ReadLogRequest request;
  EXPECT_THAT(written.Read(request), ElementsAre("line 8", "line 9", "line 10"));
  EXPECT_EQ(written.last.oldest(), 8u);
  request.set_after(2);
  request.set_incarnation(5);
  EXPECT_THAT(written.Read(request), ElementsAre("line 8", "line 9", "line 10"));
}

TEST(LogBook, FindsLinesByJobTaskAndNode) {
  Written written;
  written.log.Info("grant", {{"job", "j-1"}, {"task", "j-1/frame/4"}, {"tasks", "4,5,6"}, {"node", "attic"}});
  written.log.Info("done", {{"job", "j-1"}, {"task", "j-1/frame/5"}, {"node", "00ff"}});
  written.log.Info("page", {{"job", "j-1"}, {"task", "j-1/page/5"}, {"node", "cellar"}});
  written.log.Info("other", {{"job", "j-2"}});
  farm::v1::ReadLogRequest request;
  request.set_job_id("j-1");
  EXPECT_THAT(written.Read(request), ElementsAre("grant", "done", "page"));
  *request.mutable_task() = *plan::ParseTaskName("j-1/frame/5");
  EXPECT_THAT(written.Read(request), ElementsAre("grant", "done"));
  EXPECT_THAT(written.Read({}, {"attic", "00ff"}), ElementsAre("grant", "done"));
}

TEST(ReadLog, TellsWhatTheFarmDecidedAndWhatItNeverHeardOf) {
  TestFarm farm;
  farm.MustStart();
  Client client = farm.Connect();
  client.AddTinyModel();
  const std::string job = client.MustSubmit("k1");
  const auto read = [&](const farm::v1::ReadLogRequest& request, farm::v1::ReadLogResponse* response) {
    grpc::ClientContext context;
    return client.farm->ReadLog(&context, request, response);
  };
  farm::v1::ReadLogRequest request;
  request.set_job_id(job);
  farm::v1::ReadLogResponse response;
  ASSERT_TRUE(read(request, &response).ok());
  std::vector<std::string> events;
  for (const auto& line : response.lines()) events.push_back(line.event());
  EXPECT_THAT(events, Contains("job accepted"));
  request.set_job_id("j-9999999999");
  const grpc::Status unknown = read(request, &response);
  EXPECT_EQ(unknown.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(unknown.error_message(), HasSubstr("there is no job j-9999999999"));
  request.clear_job_id();
  request.set_node("nowhere");
  EXPECT_EQ(read(request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST(ListJobs, ThoseWithWorkLeftComeInTheOrderInWhichTheyAreServed) {
  TestFarm farm;
  farm.MustStart();
  Client client = farm.Connect();
  client.AddTinyModel();
  const std::string first = client.MustSubmit("k1");
  const std::string second = client.MustSubmit("k2");
  const std::string third = client.MustSubmit("k3");
  farm::v1::JobStatus status;
  {
    grpc::ClientContext context;
    farm::v1::ChangeJobRequest change;
    change.set_job_id(third);
    change.set_priority(90);
    ASSERT_TRUE(client.farm->ChangeJob(&context, change, &status).ok());
  }
  {
    grpc::ClientContext context;
    farm::v1::CancelJobRequest cancel;
    cancel.set_job_id(second);
    ASSERT_TRUE(client.farm->CancelJob(&context, cancel, &status).ok());
  }
  grpc::ClientContext context;
  farm::v1::ListJobsRequest request;
  request.set_live(true);
  farm::v1::ListJobsResponse response;
  ASSERT_TRUE(client.farm->ListJobs(&context, request, &response).ok());
  std::vector<std::string> ids;
  for (const auto& job : response.jobs()) ids.push_back(job.job_id());
  EXPECT_THAT(ids, ElementsAre(third, first));
}

}  // namespace
}  // namespace storyfarm::coordinator
