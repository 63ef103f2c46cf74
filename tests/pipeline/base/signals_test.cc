#include "pipeline/base/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <future>

namespace storyfarm::base {
namespace {

// Each in a process of its own, as signals are the process's. Exit codes tell what happened there.

[[noreturn]] void DrainOnTheFirst() {
  if (!InstallStopSignals().ok()) std::_Exit(10);
  std::promise<void> drained;
  StopWatch watch([&drained] { drained.set_value(); });
  raise(SIGTERM);
  drained.get_future().wait();
  std::_Exit(7);
}

[[noreturn]] void RaiseBeforeTheWatch() {
  if (!InstallStopSignals().ok()) std::_Exit(10);
  raise(SIGINT);
  std::promise<void> drained;
  StopWatch watch([&drained] { drained.set_value(); });
  drained.get_future().wait();
  std::_Exit(7);
}

[[noreturn]] void RaiseTwice() {
  if (!InstallStopSignals().ok()) std::_Exit(10);
  raise(SIGTERM);
  raise(SIGINT);
  std::_Exit(10);
}

[[noreturn]] void EndTheWatchInPeace() {
  if (!InstallStopSignals().ok()) std::_Exit(10);
  bool drained = false;
  {
    StopWatch watch([&drained] { drained = true; });
  }
  std::_Exit(drained ? 10 : 7);
}

[[noreturn]] void WriteToNobody() {
  if (!InstallStopSignals().ok()) std::_Exit(10);
  int fds[2];
  if (pipe(fds) != 0) std::_Exit(10);
  close(fds[0]);
  std::_Exit(write(fds[1], "x", 1) < 0 && errno == EPIPE ? 7 : 10);
}

TEST(SignalsDeathTest, TheFirstSignalDrains) { EXPECT_EXIT(DrainOnTheFirst(), testing::ExitedWithCode(7), ""); }

TEST(SignalsDeathTest, ASignalBeforeTheWatchIsNotLost) {
  EXPECT_EXIT(RaiseBeforeTheWatch(), testing::ExitedWithCode(7), "");
}

TEST(SignalsDeathTest, TheSecondSignalEndsTheProcessAtOnce) {
  EXPECT_EXIT(RaiseTwice(), testing::ExitedWithCode(128 + SIGINT), "");
}

TEST(SignalsDeathTest, AWatchThatEndsWithoutASignalDoesNotDrain) {
  EXPECT_EXIT(EndTheWatchInPeace(), testing::ExitedWithCode(7), "");
}

TEST(SignalsDeathTest, APeerThatWentAwayIsAnErrorOfTheWrite) {
  EXPECT_EXIT(WriteToNobody(), testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace storyfarm::base
