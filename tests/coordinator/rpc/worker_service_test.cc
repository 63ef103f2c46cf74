// The session's protocol at its edges.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/rpc/scripted_worker.h"
#include "tests/coordinator/rpc/test_farm.h"

namespace storyfarm::coordinator {
namespace {

using testing::HasSubstr;

class WorkerServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    farm_.MustStart();
    client_ = std::make_unique<Client>(farm_.target());
  }
  // How a session ends that sends this first.
  grpc::Status EndOf(const farm::v1::WorkerMessage& first) {
    grpc::ClientContext context;
    const auto stream = client_->workers->Session(&context);
    stream->Write(first);
    farm::v1::CoordinatorMessage message;
    EXPECT_FALSE(stream->Read(&message));
    return stream->Finish();
  }
  TestFarm farm_;
  std::unique_ptr<Client> client_;
};

TEST_F(WorkerServiceTest, AWorkerOfAnotherProtocolVersionIsToldWhichAreServed) {
  farm::v1::WorkerMessage first;
  *first.mutable_hello() = HelloOf("n");
  first.mutable_hello()->set_protocol_version(99);
  const grpc::Status status = EndOf(first);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("99"));
}

TEST_F(WorkerServiceTest, AFirstMessageThatIsNotHelloEndsTheSession) {
  farm::v1::WorkerMessage first;
  first.mutable_heartbeat();
  EXPECT_EQ(EndOf(first).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(WorkerServiceTest, ASecondHelloEndsTheSession) {
  grpc::ClientContext context;
  const auto stream = client_->workers->Session(&context);
  farm::v1::WorkerMessage hello;
  *hello.mutable_hello() = HelloOf("n");
  farm::v1::CoordinatorMessage message;
  ASSERT_TRUE(stream->Write(hello));
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_TRUE(message.has_welcome());
  EXPECT_EQ(message.welcome().protocol_version(), kProtocolVersion);
  EXPECT_EQ(message.welcome().software_version(), "test");
  ASSERT_TRUE(stream->Write(hello));
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(WorkerServiceTest, ANodesSecondStreamReplacesItsFirst) {
  ScriptedWorker first(farm_.target(), "n");
  farm::v1::ListNodesResponse nodes;
  while (nodes.nodes_size() == 0) {
    grpc::ClientContext context;
    ASSERT_TRUE(client_->farm->ListNodes(&context, {}, &nodes).ok());
  }
  ScriptedWorker second(farm_.target(), "n");
  EXPECT_FALSE(first.WaitForAccepted(1)) << "it ends, although nothing was accepted";
  EXPECT_EQ(first.Stop().error_code(), grpc::StatusCode::ABORTED);
}

TEST_F(WorkerServiceTest, AResultIsTakenOnlyWhenItsBlobsAreHere) {
  client_->AddTinyModel();
  client_->MustSubmit("k1", "panels:\n  - \"[NC] a tree\"\n");
  grpc::ClientContext context;
  const auto stream = client_->workers->Session(&context);
  farm::v1::WorkerMessage hello;
  *hello.mutable_hello() = HelloOf("n");
  ASSERT_TRUE(stream->Write(hello));
  farm::v1::CoordinatorMessage message;
  do {
    ASSERT_TRUE(stream->Read(&message));
  } while (!message.has_grant());
  ASSERT_TRUE(message.grant().work().has_text()) << "prompts first";
  ASSERT_TRUE(stream->Write(ResultsOf(*client_, message.grant(), true)[0]));
  do {
    ASSERT_TRUE(stream->Read(&message));
  } while (!message.has_grant());
  const farm::v1::Grant grant = message.grant();
  const std::vector<farm::v1::WorkerMessage> missing = ResultsOf(*client_, grant, false);
  ASSERT_EQ(missing.size(), 1u);
  ASSERT_TRUE(stream->Write(missing[0]));
  do {
    ASSERT_TRUE(stream->Read(&message));
  } while (!message.has_verdict() || message.verdict().task().kind() != farm::v1::TASK_FRAME);
  EXPECT_EQ(message.verdict().verdict(), farm::v1::BLOBS_MISSING);
  EXPECT_EQ(message.verdict().missing_digests_size(), 2);

  ASSERT_TRUE(stream->Write(ResultsOf(*client_, grant, true)[0]));
  do {
    ASSERT_TRUE(stream->Read(&message));
  } while (!message.has_verdict());
  EXPECT_EQ(message.verdict().verdict(), farm::v1::ACCEPTED);
  context.TryCancel();
}

TEST(WorkerService, OneWorkerTooManyIsToldSo) {
  TestFarm farm;
  ServerOptions options;
  options.limits.sessions = 0;
  ASSERT_TRUE(farm.Start(options).ok());
  Client client = farm.Connect();
  grpc::ClientContext context;
  const auto stream = client.workers->Session(&context);
  farm::v1::CoordinatorMessage message;
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

}  // namespace
}  // namespace storyfarm::coordinator
