#include "pipeline/base/framing.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

namespace storyfarm::base {
namespace {

class Framing : public testing::Test {
 protected:
  void SetUp() override {
    auto pair = MakeSocketPair();
    ASSERT_TRUE(pair.ok()) << pair.status();
    pair_ = *std::move(pair);
  }
  void SendRaw(const std::string& bytes) {
    ASSERT_EQ(::write(pair_.parent.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  SocketPair pair_;
};

TEST_F(Framing, MessagesComeWholeAndInOrder) {
  ASSERT_TRUE(WriteFrame(pair_.parent.get(), "one").ok());
  ASSERT_TRUE(WriteFrame(pair_.parent.get(), "").ok());
  ASSERT_TRUE(WriteFrame(pair_.parent.get(), std::string("\0two", 4)).ok());
  pair_.parent.Reset();
  EXPECT_EQ(**ReadFrame(pair_.child.get()), "one");
  EXPECT_EQ(**ReadFrame(pair_.child.get()), "");
  EXPECT_EQ(**ReadFrame(pair_.child.get()), std::string("\0two", 4));
  const auto end = ReadFrame(pair_.child.get());
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_FALSE(end->has_value()) << "the end between two messages is no error";
}

TEST_F(Framing, MessagesLargerThanTheSocketsBufferPass) {
  std::string large(kMaxFrameBytes, 'x');
  large[12'345'678] = 'y';
  absl::Status sent;
  std::thread writer([&] { sent = WriteFrame(pair_.parent.get(), large); });
  const auto got = ReadFrame(pair_.child.get());
  writer.join();
  EXPECT_TRUE(sent.ok()) << sent;
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_TRUE(**got == large);
}

TEST_F(Framing, TheLengthIsFourLittleEndianBytes) {
  ASSERT_TRUE(WriteFrame(pair_.parent.get(), std::string(258, 'a')).ok());
  unsigned char raw[5];
  ASSERT_EQ(::read(pair_.child.get(), raw, 5), 5);
  EXPECT_EQ(raw[0], 2);
  EXPECT_EQ(raw[1], 1);
  EXPECT_EQ(raw[2], 0);
  EXPECT_EQ(raw[3], 0);
  EXPECT_EQ(raw[4], 'a');
}

TEST_F(Framing, AStreamThatEndsInsideAMessageIsAnError) {
  SendRaw(std::string("\x05\0\0\0ab", 6));
  pair_.parent.Reset();
  EXPECT_TRUE(absl::IsDataLoss(ReadFrame(pair_.child.get()).status()));
}

TEST_F(Framing, AStreamThatEndsInsideALengthIsAnError) {
  SendRaw(std::string("\x05\0", 2));
  pair_.parent.Reset();
  EXPECT_TRUE(absl::IsDataLoss(ReadFrame(pair_.child.get()).status()));
}

TEST_F(Framing, LengthsOverTheLimitAreRefusedOnBothSides) {
  SendRaw("\xff\xff\xff\xff");
  EXPECT_TRUE(absl::IsDataLoss(ReadFrame(pair_.child.get()).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(WriteFrame(pair_.parent.get(), std::string(kMaxFrameBytes + 1, 'x'))));
}

TEST_F(Framing, WritingToAClosedSocketIsAnErrorAndNoSignal) {
  struct sigaction before {};
  ASSERT_EQ(::sigaction(SIGPIPE, nullptr, &before), 0);
  ASSERT_EQ(before.sa_handler, SIG_DFL) << "the test means nothing where SIGPIPE is ignored";
  pair_.child.Reset();
  EXPECT_TRUE(absl::IsUnavailable(WriteFrame(pair_.parent.get(), "x")));
}

TEST_F(Framing, AWaitingReaderIsReleasedByShutdown) {
  std::thread reader([&] {
    const auto got = ReadFrame(pair_.child.get());
    EXPECT_TRUE(got.ok() && !got->has_value());
  });
  ::shutdown(pair_.child.get(), SHUT_RDWR);
  reader.join();
}

void Interrupted(int) {}

TEST_F(Framing, SignalsDoNotBreakAMessage) {
  struct sigaction action {};
  action.sa_handler = Interrupted;  // no SA_RESTART: system calls answer EINTR
  struct sigaction before {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  const std::string large(8 << 20, 's');
  std::atomic<bool> done{false};
  std::thread reader([&] {
    const auto got = ReadFrame(pair_.child.get());
    EXPECT_TRUE(got.ok() && **got == large) << got.status();
    done = true;
  });
  std::thread writer([&] { EXPECT_TRUE(WriteFrame(pair_.parent.get(), large).ok()); });
  while (!done) {
    ::pthread_kill(reader.native_handle(), SIGUSR1);
    ::pthread_kill(writer.native_handle(), SIGUSR1);
    std::this_thread::yield();
  }
  writer.join();
  reader.join();
  ::sigaction(SIGUSR1, &before, nullptr);
}

}  // namespace
}  // namespace storyfarm::base
