#include "pipeline/base/subprocess.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "pipeline/base/env.h"
#include "pipeline/base/framing.h"
#include "pipeline/base/unique_fd.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::base {
namespace {

using testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(30);  // a bound for a broken test, never waited out

SubprocessOptions Shell(const std::string& script) {
  SubprocessOptions options;
  options.program = "sh";
  options.arguments = {"-c", script};
  return options;
}

class SubprocessTest : public testing::Test {
 protected:
  // What the script writes, after it ended.
  std::string Output(SubprocessOptions options) {
    options.output_file = folder_.File("out");
    auto child = Subprocess::Start(options);
    EXPECT_TRUE(child.ok()) << child.status();
    if (!child.ok()) return "";
    EXPECT_TRUE((*child)->Wait(kLong).has_value());
    return env_.ReadFile(folder_.File("out")).value_or("");
  }
  testing_support::TempFolder folder_;
  Env& env_ = Env::Real();
};

TEST_F(SubprocessTest, TellsHowItEnded) {
  auto exits = Subprocess::Start(Shell("exit 3"));
  ASSERT_TRUE(exits.ok()) << exits.status();
  const auto code = (*exits)->Wait(kLong);
  ASSERT_TRUE(code.has_value());
  EXPECT_EQ(code->code, 3);
  EXPECT_FALSE(code->ok());
  EXPECT_EQ(code->ToString(), "exited with code 3");
  auto dies = Subprocess::Start(Shell("kill -9 $$"));
  ASSERT_TRUE(dies.ok());
  const auto death = (*dies)->Wait(kLong);
  ASSERT_TRUE(death.has_value());
  EXPECT_EQ(death->signal, SIGKILL);
  EXPECT_THAT(death->ToString(), HasSubstr("killed by signal 9"));
}

TEST_F(SubprocessTest, WhatCantBeStartedIsKnownAtOnce) {
  SubprocessOptions options;
  options.program = folder_.File("absent");
  EXPECT_TRUE(absl::IsNotFound(Subprocess::Start(options).status()));
  options.program = "no-such-program-anywhere";
  EXPECT_THAT(std::string(Subprocess::Start(options).status().message()), HasSubstr("PATH"));
  ASSERT_TRUE(env_.WriteFileDurably(folder_.File("plain"), "text").ok());
  options.program = folder_.File("plain");
  EXPECT_TRUE(absl::IsPermissionDenied(Subprocess::Start(options).status()));
  options = Shell("true");
  options.folder = folder_.File("absent");
  EXPECT_TRUE(absl::IsNotFound(Subprocess::Start(options).status()));
}

TEST_F(SubprocessTest, TakesArgumentsEnvironmentAndFolder) {
  SubprocessOptions options = Shell("echo \"$1|$STORYFARM_TEST_VALUE|$(basename \"$PWD\")|$HOME\"");
  options.arguments.insert(options.arguments.end(), {"name", "a b'\"c"});
  options.environment = {{"STORYFARM_TEST_VALUE", "v=1"}, {"HOME", "/changed"}};
  ASSERT_TRUE(env_.CreateFolders(folder_.File("here")).ok());
  options.folder = folder_.File("here");
  EXPECT_EQ(Output(options), "a b'\"c|v=1|here|/changed\n");
}

TEST_F(SubprocessTest, TalksOverAPassedSocket) {
  auto pair = MakeSocketPair();
  ASSERT_TRUE(pair.ok());
  SubprocessOptions options = Shell("cat <&5 >&5");
  options.descriptors = {{pair->child.get(), 5}};
  auto child = Subprocess::Start(options);
  ASSERT_TRUE(child.ok()) << child.status();
  pair->child.Reset();
  ASSERT_TRUE(WriteFrame(pair->parent.get(), "echo this").ok());
  const auto back = ReadFrame(pair->parent.get());
  ASSERT_TRUE(back.ok() && back->has_value()) << back.status();
  EXPECT_EQ(**back, "echo this");
  pair->parent.Reset();
  const auto ended = (*child)->Wait(kLong);
  ASSERT_TRUE(ended.has_value()) << "a closed socket ends it";
}

TEST_F(SubprocessTest, InheritsNothingThatItWasNotGiven) {
  // Not close-on-exec, as a careless library would open it.
  UniqueFd stray(::open("/dev/null", O_RDONLY));
  UniqueFd high(::fcntl(stray.get(), F_DUPFD, 200));
  const std::string script = "for fd in 3 4 " + std::to_string(stray.get()) + " " + std::to_string(high.get()) +
                             "; do if { true <&$fd; } 2>/dev/null; then echo open $fd; fi; done; read x || echo eof";
  SubprocessOptions options = Shell(script);
  options.program = "bash";  // dash takes one digit only
  EXPECT_EQ(Output(options), "eof\n") << "and input is empty";
}

TEST_F(SubprocessTest, DescriptorsMayTradePlaces) {
  ASSERT_TRUE(env_.WriteFileDurably(folder_.File("a"), "A").ok());
  ASSERT_TRUE(env_.WriteFileDurably(folder_.File("b"), "B").ok());
  UniqueFd a(::open(folder_.File("a").c_str(), O_RDONLY | O_CLOEXEC));
  UniqueFd b(::open(folder_.File("b").c_str(), O_RDONLY | O_CLOEXEC));
  SubprocessOptions options = Shell("cat <&" + std::to_string(a.get()) + "; cat <&" + std::to_string(b.get()));
  options.program = "bash";
  options.descriptors = {{a.get(), b.get()}, {b.get(), a.get()}};
  EXPECT_EQ(Output(options), "BA");
}

TEST_F(SubprocessTest, StopKillsWhatDoesNotListenAndItsWholeGroup) {
  auto pair = MakeSocketPair();
  ASSERT_TRUE(pair.ok());
  // The grandchild holds the socket, too: it closes only when both are gone.
  SubprocessOptions options =
      Shell("trap '' TERM; sh -c 'trap \"\" TERM; echo ready >&5; while :; do sleep 60; done' & wait");
  options.descriptors = {{pair->child.get(), 5}};
  auto child = Subprocess::Start(options);
  ASSERT_TRUE(child.ok());
  pair->child.Reset();
  char ready[6];
  ASSERT_EQ(::read(pair->parent.get(), ready, sizeof ready), 6);
  EXPECT_FALSE((*child)->Status().has_value());
  EXPECT_FALSE((*child)->Wait(absl::ZeroDuration()).has_value());
  const ExitStatus ended = (*child)->Stop(absl::Milliseconds(50));
  EXPECT_EQ(ended.signal, SIGKILL);
  EXPECT_EQ(::read(pair->parent.get(), ready, 1), 0) << "the group is gone";
}

TEST_F(SubprocessTest, StopLetsAWillingProgramEnd) {
  auto pair = MakeSocketPair();
  ASSERT_TRUE(pair.ok());
  SubprocessOptions options = Shell("trap 'exit 7' TERM; echo r >&5; while :; do sleep 0.01; done");
  options.descriptors = {{pair->child.get(), 5}};
  auto child = Subprocess::Start(options);
  ASSERT_TRUE(child.ok());
  char ready[2];
  ASSERT_EQ(::read(pair->parent.get(), ready, sizeof ready), 2);
  EXPECT_EQ((*child)->Stop(kLong).code, 7);
  (*child)->Signal(SIGTERM);  // after the end: nothing
}

TEST_F(SubprocessTest, DestructionLeavesNoProcess) {
  int pid = 0;
  {
    auto child = Subprocess::Start(Shell("sleep 600"));
    ASSERT_TRUE(child.ok());
    pid = (*child)->pid();
    EXPECT_EQ(::kill(pid, 0), 0);
  }
  EXPECT_EQ(::kill(pid, 0), -1) << "killed and reaped";
}

#if defined(__linux__)
TEST_F(SubprocessTest, AChildDiesWithItsParentHoweverThatDies) {
  auto pair = MakeSocketPair();
  ASSERT_TRUE(pair.ok());
  // A process of its own that starts a child holding the socket, and dies by SIGKILL.
  const pid_t parent = ::fork();
  ASSERT_GE(parent, 0);
  if (parent == 0) {
    SubprocessOptions options = Shell("echo r >&5; exec sleep 600");
    options.descriptors = {{pair->child.get(), 5}};
    auto child = Subprocess::Start(options);
    pair->child.Reset();
    pair->parent.Reset();
    if (!child.ok()) ::_exit(1);
    for (;;) ::pause();
  }
  pair->child.Reset();
  char ready[2];
  ASSERT_EQ(::read(pair->parent.get(), ready, sizeof ready), 2);
  ASSERT_EQ(::kill(parent, SIGKILL), 0);
  EXPECT_EQ(::read(pair->parent.get(), ready, 1), 0) << "the socket closes when the child is gone";
}
#endif

}  // namespace
}  // namespace storyfarm::base
