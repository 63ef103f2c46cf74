#include "pipeline/base/wake_pipe.h"

#include <gtest/gtest.h>
#include <poll.h>

namespace storyfarm::base {
namespace {

bool IsAwake(const WakePipe& pipe) {
  pollfd fd{pipe.fd(), POLLIN, 0};
  return ::poll(&fd, 1, 0) == 1;
}

TEST(WakePipe, WakesUntilItIsDrainedHoweverOftenAndAlsoWhenItIsFull) {
  const auto pipe = WakePipe::Open();
  ASSERT_TRUE(pipe.ok()) << pipe.status();
  EXPECT_FALSE(IsAwake(*pipe));
  for (int i = 0; i < 200'000; ++i) pipe->Wake();  // more than a pipe holds
  EXPECT_TRUE(IsAwake(*pipe));
  pipe->Drain();
  EXPECT_FALSE(IsAwake(*pipe));
  pipe->Wake();
  EXPECT_TRUE(IsAwake(*pipe));
}

TEST(WakePipe, AnEmptyOneWakesNobody) {
  const WakePipe none;
  none.Wake();
  none.Drain();
  EXPECT_EQ(none.fd(), -1);
}

}  // namespace
}  // namespace storyfarm::base
