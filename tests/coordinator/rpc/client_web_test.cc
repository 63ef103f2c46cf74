// Figures for monitoring and links to the web page, over a real socket.
#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/rpc/scripted_worker.h"
#include "tests/coordinator/rpc/test_farm.h"

namespace storyfarm::coordinator {
namespace {

grpc::Status OpenWeb(Client& client, farm::v1::Role role, farm::v1::OpenWebResponse* response) {
  farm::v1::OpenWebRequest request;
  request.set_role(role);
  grpc::ClientContext context;
  return client.farm->OpenWeb(&context, request, response);
}

TEST(GetFigures, CountsWhatAFarmHasDone) {
  TestFarm farm;
  farm.MustStart();
  Client client = farm.Connect();
  client.AddTinyModel();
  const std::string job_id = client.MustSubmit("k1");
  ScriptedWorker worker(farm.target(), "node-a");
  const farm::v1::JobStatus end = client.WatchToTheEnd(job_id).back();
  farm::v1::Figures figures;
  grpc::ClientContext context;
  ASSERT_TRUE(client.farm->GetFigures(&context, {}, &figures).ok());
  EXPECT_EQ(figures.jobs_accepted(), 1u);
  std::map<farm::v1::TaskKind, uint64_t> done;
  for (const auto& count : figures.attempts()) {
    EXPECT_EQ(count.failure(), farm::v1::FAILURE_KIND_UNSPECIFIED);
    done[count.kind()] = count.attempts();
  }
  EXPECT_EQ(done[farm::v1::TASK_IDENTITY], end.identities_total());
  EXPECT_GT(done[farm::v1::TASK_FRAME], 0u) << "those that are no identity frames";
  EXPECT_EQ(done[farm::v1::TASK_PAGE], end.pages_total());
  EXPECT_EQ(figures.jobs_ended(0).state(), farm::v1::JOB_DONE);
  EXPECT_GT(figures.records(), 0u);
  EXPECT_GT(figures.commit_seconds().counts_size(), 0);
}

TEST(OpenWeb, GivesTheLinkThatThePageMakesForTheRole) {
  TestFarm farm;
  farm.open_web = [](const farm::v1::OpenWebRequest& request) {
    farm::v1::OpenWebResponse link;
    link.set_url("http://127.0.0.1:1/login#" + farm::v1::Role_Name(request.role()));
    return link;
  };
  farm.MustStart();
  Client client = farm.Connect();
  farm::v1::OpenWebResponse link;
  ASSERT_TRUE(OpenWeb(client, farm::v1::ROLE_VIEWER, &link).ok());
  EXPECT_EQ(link.url(), "http://127.0.0.1:1/login#ROLE_VIEWER");
}

TEST(OpenWeb, SaysThatThereIsNoPage) {
  TestFarm farm;
  farm.MustStart();
  Client client = farm.Connect();
  farm::v1::OpenWebResponse link;
  const grpc::Status status = OpenWeb(client, farm::v1::ROLE_ADMIN, &link);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), testing::HasSubstr("--web off"));
}

}  // namespace
}  // namespace storyfarm::coordinator
