// What is Redis's own: addresses, passwords, checks of the server, the private server and the data folder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coordinator/store/data_folder.h"
#include "coordinator/store/private_redis.h"
#include "coordinator/store/redis_connection.h"
#include "coordinator/store/redis_store.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::coordinator {
namespace {

using ::testing::HasSubstr;
using testing_support::TempFolder;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

PrivateRedisOptions OptionsIn(const TempFolder& folder) {
  PrivateRedisOptions options;
  options.data_folder = folder.path();
  return options;
}

// A redis-server with settings of the test's own.
class Server {
 public:
  Server(const TempFolder& folder, std::vector<std::string> arguments) : socket_(folder.File("own.sock")) {
    base::SubprocessOptions options;
    options.program = "redis-server";
    options.arguments = {"--port", "0", "--unixsocket", socket_, "--dir", folder.path(), "--save", ""};
    options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
    options.output_file = folder.File("own.log");
    auto child = base::Subprocess::Start(options);
    EXPECT_TRUE(child.ok()) << child.status().ToString();
    if (child.ok()) child_ = *std::move(child);
    const absl::Time until = absl::Now() + absl::Seconds(20);
    while (absl::IsUnavailable(RedisConnection(Options()).Command({"PING"}).status()) && absl::Now() < until) {
      absl::SleepFor(absl::Milliseconds(5));
    }
  }
  RedisOptions Options() const {
    RedisOptions options;
    options.address.socket_path = socket_;
    return options;
  }

 private:
  std::string socket_;
  std::unique_ptr<base::Subprocess> child_;
};

TEST(RedisAddress, IsReadInAllItsForms) {
  auto address = ParseRedisAddress("redis://farm@example.org:7000/3");
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(address->host, "example.org");
  EXPECT_EQ(address->port, 7000);
  EXPECT_EQ(address->user, "farm");
  EXPECT_EQ(address->database, 3);
  address = ParseRedisAddress("redis://localhost");
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(address->port, 6379);
  address = ParseRedisAddress("redis://[::1]:7001");
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(address->host, "::1");
  EXPECT_EQ(address->port, 7001);
  address = ParseRedisAddress("unix:///run/redis.sock");
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(address->socket_path, "/run/redis.sock");
  for (const char* bad : {"", "localhost", "redis://", "redis://h:port", "redis://h:0", "redis://h/x", "unix://x",
                          "rediss://h", "redis://user:secret@h"}) {
    const auto refused = ParseRedisAddress(bad);
    EXPECT_TRUE(absl::IsInvalidArgument(refused.status())) << bad;
    EXPECT_EQ(Message(refused.status()).find("secret"), std::string::npos);
  }
}

TEST(RedisStore, AServerThatIsNotThereIsNamed) {
  TempFolder folder;
  RedisOptions options;
  options.address.socket_path = folder.File("nobody.sock");
  RedisStore store(options, "test");
  const auto epoch = store.TakeOver();
  EXPECT_TRUE(absl::IsUnavailable(epoch.status()));
  EXPECT_THAT(Message(epoch.status()), HasSubstr("nobody.sock"));
}

TEST(RedisStore, AServerThatWouldLoseAcknowledgedWritesIsRefused) {
  TempFolder folder;
  Server server(folder, {"--appendonly", "yes", "--appendfsync", "everysec"});
  RedisStore store(server.Options(), "test");
  const auto epoch = store.TakeOver();
  EXPECT_TRUE(absl::IsFailedPrecondition(epoch.status())) << epoch.status().ToString();
  EXPECT_THAT(Message(epoch.status()), HasSubstr("set appendfsync always"));
}

TEST(RedisStore, ThePasswordComesFromItsFile) {
  TempFolder folder;
  Server server(folder, {"--appendonly", "yes", "--appendfsync", "always", "--requirepass", "open sesame"});
  RedisOptions options = server.Options();
  EXPECT_TRUE(absl::IsPermissionDenied(RedisConnection(options).Command({"PING"}).status()));
  options.password_file = folder.File("password");
  EXPECT_TRUE(absl::IsPermissionDenied(RedisConnection(options).Command({"PING"}).status()));
  std::ofstream(options.password_file) << "wrong\n";
  const auto refused = RedisConnection(options).Command({"PING"});
  EXPECT_TRUE(absl::IsPermissionDenied(refused.status()));
  EXPECT_EQ(Message(refused.status()).find("wrong\n"), std::string::npos);
  std::ofstream(options.password_file) << "open sesame\n";
  RedisStore store(options, "test");
  EXPECT_TRUE(store.TakeOver().ok());
}

TEST(RedisStore, DamageInTheLogIsNamed) {
  TempFolder folder;
  Server server(folder, {"--appendonly", "yes", "--appendfsync", "always"});
  RedisStore store(server.Options(), "test");
  ASSERT_TRUE(store.TakeOver().ok());
  farm::v1::RecordBatch batch;
  for (uint64_t sequence = 1; sequence <= 3; ++sequence) {
    batch.set_sequence(sequence);
    ASSERT_EQ(store.Append(batch).outcome, AppendOutcome::kAppended);
  }
  auto load = [&store] {
    return store
        .Load([](const Snapshot&) { return absl::OkStatus(); },
              [](const farm::v1::RecordBatch&) { return absl::OkStatus(); })
        .status();
  };
  ASSERT_TRUE(load().ok());
  RedisConnection vandal(server.Options());
  ASSERT_TRUE(vandal.Command({"XDEL", "storyfarm:{test}:log", "3-0"}).ok());
  EXPECT_TRUE(absl::IsDataLoss(load())) << "the last entry is gone";
  ASSERT_TRUE(vandal.Command({"XDEL", "storyfarm:{test}:log", "1-0"}).ok());
  EXPECT_THAT(Message(load()), HasSubstr("entries are missing"));
}

TEST(RedisStore, DataOfANewerVersionIsLeftAlone) {
  TempFolder folder;
  Server server(folder, {"--appendonly", "yes", "--appendfsync", "always"});
  RedisConnection future(server.Options());
  ASSERT_TRUE(future.Command({"SET", "storyfarm:{test}:version", "99"}).ok());
  RedisStore store(server.Options(), "test");
  const auto epoch = store.TakeOver();
  EXPECT_TRUE(absl::IsFailedPrecondition(epoch.status()));
  EXPECT_THAT(Message(epoch.status()), HasSubstr("version 99"));
}

TEST(PrivateRedis, KeepsItsDataAndItsSocketToItself) {
  TempFolder folder;
  {
    auto redis = PrivateRedis::Start(&base::Env::Real(), OptionsIn(folder));
    ASSERT_TRUE(redis.ok()) << redis.status().ToString();
    struct stat info {};
    ASSERT_EQ(stat((*redis)->socket_path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 077, 0u);
    ASSERT_EQ(stat(folder.File("redis").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 077, 0u);
    RedisConnection connection((*redis)->Options());
    ASSERT_TRUE(connection.Command({"SET", "word", "kept"}).ok());
  }
  auto again = PrivateRedis::Start(&base::Env::Real(), OptionsIn(folder));
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  RedisConnection connection((*again)->Options());
  const auto word = connection.Command({"GET", "word"});
  ASSERT_TRUE(word.ok());
  EXPECT_EQ(word->text, "kept");
}

TEST(PrivateRedis, EndsWithItsOwnerAndIsStartedAgainWhereItDied) {
  TempFolder folder;
  int pid = 0;
  {
    auto redis = PrivateRedis::Start(&base::Env::Real(), OptionsIn(folder));
    ASSERT_TRUE(redis.ok()) << redis.status().ToString();
    const int first = (*redis)->pid();
    ASSERT_GT(first, 0);
    ASSERT_EQ(kill(first, SIGKILL), 0);
    ASSERT_TRUE((*redis)->EnsureRunning().ok());
    pid = (*redis)->pid();
    EXPECT_NE(pid, first);
  }
  EXPECT_NE(kill(pid, 0), 0) << "the server outlived its owner";
}

TEST(PrivateRedis, AServerWhoseCoordinatorWasKilledIsAdopted) {
  TempFolder folder;
  // What a killed coordinator leaves: the server, and nobody who holds it.
  auto orphan = PrivateRedis::Start(&base::Env::Real(), OptionsIn(folder));
  ASSERT_TRUE(orphan.ok()) << orphan.status().ToString();
  const int pid = (*orphan)->pid();
  {
    auto adopted = PrivateRedis::Start(&base::Env::Real(), OptionsIn(folder));
    ASSERT_TRUE(adopted.ok()) << adopted.status().ToString();
    EXPECT_EQ((*adopted)->pid(), pid);
    RedisConnection connection((*adopted)->Options());
    EXPECT_TRUE(connection.Command({"PING"}).ok());
  }
  RedisOptions options;
  options.address.socket_path = (*orphan)->socket_path();
  EXPECT_TRUE(absl::IsUnavailable(RedisConnection(options).Command({"PING"}).status()));
}

TEST(PrivateRedis, AMissingProgramIsSaid) {
  TempFolder folder;
  PrivateRedisOptions options = OptionsIn(folder);
  options.program = folder.File("no-such-redis-server");
  const auto redis = PrivateRedis::Start(&base::Env::Real(), options);
  EXPECT_TRUE(absl::IsNotFound(redis.status()));
  EXPECT_THAT(Message(redis.status()), HasSubstr("run tools/setup"));
}

TEST(PrivateRedis, ATooOldProgramIsSaid) {
  TempFolder folder;
  PrivateRedisOptions options = OptionsIn(folder);
  options.program = folder.File("old-redis-server");
  std::ofstream(options.program) << "#!/bin/sh\necho 'Redis server v=5.0.3 sha=0:0 malloc=libc bits=64 build=0'\n";
  ASSERT_EQ(chmod(options.program.c_str(), 0700), 0);
  const auto redis = PrivateRedis::Start(&base::Env::Real(), options);
  EXPECT_TRUE(absl::IsFailedPrecondition(redis.status()));
  EXPECT_THAT(Message(redis.status()), HasSubstr("is Redis 5.0.3, at least 6.2 is needed"));
}

TEST(PrivateRedis, AServerThatEndsAtOnceTellsWhatItWrote) {
  TempFolder folder;
  PrivateRedisOptions options = OptionsIn(folder);
  options.program = folder.File("broken-redis-server");
  std::ofstream(options.program) << "#!/bin/sh\n[ \"$1\" = --version ] && echo 'Redis server v=7.0.15 sha=0' && exit\n"
                                    "echo 'the moon is in the wrong place'\nexit 3\n";
  ASSERT_EQ(chmod(options.program.c_str(), 0700), 0);
  const auto redis = PrivateRedis::Start(&base::Env::Real(), options);
  EXPECT_TRUE(absl::IsFailedPrecondition(redis.status()));
  EXPECT_THAT(Message(redis.status()), HasSubstr("exited with code 3"));
  EXPECT_THAT(Message(redis.status()), HasSubstr("the moon is in the wrong place"));
}

TEST(PrivateRedis, ALongFolderStillGetsASocket) {
  TempFolder folder;
  PrivateRedisOptions options;
  options.data_folder = folder.File(std::string(100, 'x'));
  auto redis = PrivateRedis::Start(&base::Env::Real(), options);
  ASSERT_TRUE(redis.ok()) << redis.status().ToString();
  EXPECT_LE((*redis)->socket_path().size(), 103u);
  const std::string socket_path = (*redis)->socket_path();
  redis->reset();
  EXPECT_NE(access(socket_path.c_str(), F_OK), 0) << "the socket is left behind";
}

TEST(DataFolder, ASecondCoordinatorIsRefusedWithTheFirstOnesProcess) {
  TempFolder folder;
  auto first = DataFolder::Open(&base::Env::Real(), folder.File("data"));
  ASSERT_TRUE(first.ok()) << first.status().ToString();
  const auto second = DataFolder::Open(&base::Env::Real(), folder.File("data"));
  EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status().ToString();
  EXPECT_THAT(Message(second.status()), HasSubstr(absl::StrCat("process ", getpid())));
  first->reset();
  EXPECT_TRUE(DataFolder::Open(&base::Env::Real(), folder.File("data")).ok());
}

TEST(DataFolder, ANewerVersionIsRefused) {
  TempFolder folder;
  std::ofstream(folder.File("version")) << "7\n";
  const auto opened = DataFolder::Open(&base::Env::Real(), folder.path());
  EXPECT_TRUE(absl::IsFailedPrecondition(opened.status()));
  EXPECT_THAT(Message(opened.status()), HasSubstr("has version 7"));
  std::ofstream(folder.File("version")) << "not a number";
  EXPECT_TRUE(absl::IsFailedPrecondition(DataFolder::Open(&base::Env::Real(), folder.path()).status()));
}

TEST(DataFolder, AFolderThatCannotBeMadeIsNamed) {
  TempFolder folder;
  std::ofstream(folder.File("file")) << "x";
  const auto opened = DataFolder::Open(&base::Env::Real(), folder.File("file/data"));
  EXPECT_FALSE(opened.ok());
  EXPECT_THAT(Message(opened.status()), HasSubstr("file/data"));
}

}  // namespace
}  // namespace storyfarm::coordinator
