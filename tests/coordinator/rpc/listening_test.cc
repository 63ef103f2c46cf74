// What clients see of a coordinator that stands by.
#include "coordinator/rpc/listening.h"

#include <grpcpp/grpcpp.h>

#include <chrono>

#include "farm/v1/client.grpc.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::coordinator {
namespace {

using Clock = std::chrono::system_clock;

TEST(StandBy, ACallIsRefusedWithItsSentenceAndTheConnectionEndsByItself) {
  testing_support::TempFolder folder;
  ListenOptions options;
  options.socket_path = folder.File("s");
  const auto door = Listening::StandBy(options);
  ASSERT_TRUE(door.ok()) << door.status();
  (*door)->Say("Ask the other one.");
  const auto channel = grpc::CreateChannel("unix:" + options.socket_path, grpc::InsecureChannelCredentials());
  grpc::ClientContext context;
  context.set_deadline(Clock::now() + std::chrono::seconds(10));
  farm::v1::ListJobsResponse response;
  const grpc::Status status =
      farm::v1::ClientService::NewStub(channel)->ListJobs(&context, farm::v1::ListJobsRequest(), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "Ask the other one.");
  // Nobody hangs up but the server; what comes next over a shared address may be the one that leads.
  ASSERT_EQ(channel->GetState(false), GRPC_CHANNEL_READY);
  EXPECT_TRUE(channel->WaitForStateChange(GRPC_CHANNEL_READY, Clock::now() + std::chrono::seconds(20)));
}

}  // namespace
}  // namespace storyfarm::coordinator
