// The parent's side of an engine: how it hears, and how it tells why an engine is gone.
#include "worker/engine/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>
#include <memory>
#include <string>

#include "tests/support/temp_folder.h"

namespace storyfarm::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing_support::TempFolder;

constexpr int64_t kPatienceMs = 20'000;  // far above what any of these takes

// A program in place of the engine: a shell script.
class Client : public ::testing::Test {
 protected:
  std::unique_ptr<EngineProcess> StartScript(const std::string& body) {
    const std::string path = temp_.File("engine");
    std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
    chmod(path.c_str(), 0755);
    auto engine = EngineProcess::Start({.program = path});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }

  TempFolder temp_;
};

farm::v1::EngineRequest MemoryRequest(uint64_t id) {
  farm::v1::EngineRequest request;
  request.set_request_id(id);
  request.mutable_memory();
  return request;
}

TEST_F(Client, AMissingProgramIsNotFound) {
  const auto engine = EngineProcess::Start({.program = temp_.File("absent")});
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kNotFound);
}

TEST_F(Client, TellsTheExitCodeAndTheLastLineThatTheEngineWrote) {
  const auto engine = StartScript("echo first >&2; echo 'the disk is on fire' >&2; exit 3");
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(engine->NextEvent(kPatienceMs).status().code(), absl::StatusCode::kUnavailable);
  const farm::v1::Failure failure = engine->Ending();
  EXPECT_EQ(failure.kind(), farm::v1::ENGINE_ABORTED);
  EXPECT_THAT(failure.message(), AllOf(HasSubstr("code 3"), HasSubstr("the disk is on fire"), HasSubstr("cpu")));
}

TEST_F(Client, TellsTheSignalOfAnEngineThatAborted) {
  const auto engine = StartScript("kill -ABRT $$");
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(engine->NextEvent(kPatienceMs).status().code(), absl::StatusCode::kUnavailable);
  const farm::v1::Failure failure = engine->Ending();
  EXPECT_EQ(failure.kind(), farm::v1::ENGINE_ABORTED);
  EXPECT_THAT(failure.message(), HasSubstr("signal 6"));
}

TEST_F(Client, AnEngineThatIsKilledFromOutsideIsAborted) {
  const auto engine = StartScript("exec sleep 1000");
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(engine->NextEvent(0).status().code(), absl::StatusCode::kDeadlineExceeded);
  kill(engine->pid(), SIGKILL);
  EXPECT_EQ(engine->NextEvent(kPatienceMs).status().code(), absl::StatusCode::kUnavailable);
  const farm::v1::Failure failure = engine->Ending();
  EXPECT_EQ(failure.kind(), farm::v1::ENGINE_ABORTED);
  EXPECT_THAT(failure.message(), HasSubstr("signal 9"));
}

TEST_F(Client, KillEndsAnEngineThatDoesNotListen) {
  const auto engine = StartScript("trap '' TERM; while :; do sleep 1000; done");
  ASSERT_NE(engine, nullptr);
  engine->Kill();
  EXPECT_EQ(kill(engine->pid(), 0), -1);
  EXPECT_THAT(engine->Ending().message(), HasSubstr("was stopped"));
  engine->Kill();
  engine->Stop(0);
}

TEST_F(Client, SomethingThatIsNoEventEndsTheEngine) {
  // Length 1, little-endian, then a byte that no message starts with.
  const auto engine = StartScript("printf '\\001\\000\\000\\000\\377' >&3; exec sleep 1000");
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(engine->NextEvent(kPatienceMs).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(kill(engine->pid(), 0), -1);
}

TEST_F(Client, SendingToAnEngineThatIsGoneIsUnavailable) {
  const auto engine = StartScript("exit 0");
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(engine->NextEvent(kPatienceMs).status().code(), absl::StatusCode::kUnavailable);
  engine->Ending();
  EXPECT_EQ(engine->Send(MemoryRequest(1)).code(), absl::StatusCode::kUnavailable);
}

TEST_F(Client, TheNamedProgramWinsAndAWrongNameIsToldSo) {
  const char* before = getenv("STORYFARM_ENGINE");
  const std::string kept = before == nullptr ? "" : before;
  setenv("STORYFARM_ENGINE", "/bin/sh", 1);
  EXPECT_EQ(*FindEngineProgram(), "/bin/sh");
  setenv("STORYFARM_ENGINE", temp_.File("absent").c_str(), 1);
  EXPECT_THAT(std::string(FindEngineProgram().status().message()), HasSubstr("STORYFARM_ENGINE"));
  kept.empty() ? unsetenv("STORYFARM_ENGINE") : setenv("STORYFARM_ENGINE", kept.c_str(), 1);
}

}  // namespace
}  // namespace storyfarm::engine
