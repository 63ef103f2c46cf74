#include "pipeline/base/places.h"

#include <map>

#include "gtest/gtest.h"

namespace storyfarm::base {
namespace {

Variables From(const std::map<std::string, std::string>& values) {
  return [values](const std::string& name) {
    const auto found = values.find(name);
    return found == values.end() ? std::string() : found->second;
  };
}

#ifndef __APPLE__
TEST(Places, DataLiesBelowXdgDataHomeOrElseBelowHome) {
  EXPECT_EQ(*DefaultDataFolder(From({{"HOME", "/home/ann"}}), "worker"), "/home/ann/.local/share/storyfarm/worker");
  EXPECT_EQ(*DefaultDataFolder(From({{"HOME", "/home/ann"}, {"XDG_DATA_HOME", "/data"}}), "coordinator"),
            "/data/storyfarm/coordinator");
  EXPECT_EQ(*DefaultDataFolder(From({{"HOME", "/home/ann"}, {"XDG_DATA_HOME", "data"}}), "coordinator"),
            "/home/ann/.local/share/storyfarm/coordinator");
}
#endif

TEST(Places, WithoutAHomeThereIsNoDefault) {
  EXPECT_EQ(DefaultDataFolder(From({}), "worker").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(DefaultCoordinatorTarget(From({})).ok());
}

TEST(Places, TheSocketLiesInTheDataFolderWhereItsPathFits) {
  EXPECT_EQ(CoordinatorSocket("/data"), "/data/coordinator.sock");
}

TEST(Places, ALongDataFolderHasItsSocketElsewhereAndAlwaysTheSame) {
  const std::string folder = "/" + std::string(100, 'a');
  const std::string path = CoordinatorSocket(folder);
  EXPECT_LE(path.size(), kMaxSocketPathBytes);
  EXPECT_EQ(path.rfind("/tmp/storyfarm-", 0), 0u);
  EXPECT_EQ(path, CoordinatorSocket(folder));
  EXPECT_NE(path, CoordinatorSocket(folder + "b"));
}

TEST(Places, AnAddressAtWhichNothingCanAnswerIsRefused) {
  for (const char* right : {"unix:/run/farm.sock", "127.0.0.1:7850", "localhost:1", "[::1]:65535",
                            "unix:/a.sock,unix:/b.sock", "127.0.0.1:1,127.0.0.1:2", "[::1]:1,[::1]:2"}) {
    EXPECT_TRUE(CheckCoordinatorTarget(right).ok()) << right;
  }
  for (const char* wrong :
       {"", "farm", "unix:", ":7850", "farm:", "farm:0", "farm:65536", "farm:-1", "farm:http",
        "unix:/a.sock,127.0.0.1:1", "localhost:1,localhost:2", "127.0.0.1:1,", "[::1]:1,127.0.0.1:1"}) {
    EXPECT_EQ(CheckCoordinatorTarget(wrong).code(), absl::StatusCode::kInvalidArgument) << wrong;
  }
}

}  // namespace
}  // namespace storyfarm::base
