#include "coordinator/web/request_guard.h"

#include <string>

#include "gtest/gtest.h"

namespace storyfarm::coordinator {
namespace {

RequestSource Get(const std::string& host) {
  RequestSource source;
  source.host = host;
  return source;
}

RequestSource Post(const std::string& host, const std::string& origin) {
  RequestSource source = Get(host);
  source.changes = true;
  source.origin = origin;
  return source;
}

TEST(RequestGuard, TakesLoopbackNamesAtAnyPort) {
  for (const char* host : {"127.0.0.1:7851", "localhost:9000", "LOCALHOST", "[::1]:7851", "[::1]", "127.0.0.1"}) {
    EXPECT_TRUE(CheckSource(Get(host)).ok()) << host;
  }
}

TEST(RequestGuard, RefusesNamesThatOnlyPointToLoopback) {
  for (const char* host : {"", "evil.example", "evil.example:7851", "127.0.0.1.evil.example", "localhost.evil.example:7851",
                           "[::1", "[::1]evil", "127.0.0.1:7851@evil.example", "localhost:port", "0.0.0.0:7851", "127.0.0.2"}) {
    EXPECT_TRUE(absl::IsPermissionDenied(CheckSource(Get(host)))) << host;
  }
}

TEST(RequestGuard, TakesChangesFromTheOwnOriginAlone) {
  EXPECT_TRUE(CheckSource(Post("127.0.0.1:7851", "http://127.0.0.1:7851")).ok());
  EXPECT_TRUE(CheckSource(Post("localhost:7851", "http://LOCALHOST:7851")).ok());
  for (const char* origin : {"", "null", "http://127.0.0.1:7852", "http://127.0.0.1", "https://127.0.0.1:7851",
                             "http://localhost:7851", "http://evil.example"}) {
    EXPECT_TRUE(absl::IsPermissionDenied(CheckSource(Post("127.0.0.1:7851", origin)))) << origin;
  }
}

TEST(RequestGuard, RefusesWhatPagesOfOtherSitesOrPortsAskFor) {
  for (const char* site : {"cross-site", "same-site"}) {
    RequestSource source = Get("127.0.0.1:7851");
    source.fetch_site = site;
    EXPECT_TRUE(absl::IsPermissionDenied(CheckSource(source))) << site;
    source.page = true;  // a link that a person follows
    EXPECT_TRUE(CheckSource(source).ok()) << site;
    RequestSource change = Post("127.0.0.1:7851", "http://127.0.0.1:7851");
    change.fetch_site = site;
    EXPECT_TRUE(absl::IsPermissionDenied(CheckSource(change))) << site;
  }
  for (const char* site : {"same-origin", "none"}) {
    RequestSource source = Get("127.0.0.1:7851");
    source.fetch_site = site;
    EXPECT_TRUE(CheckSource(source).ok()) << site;
  }
}

TEST(RequestGuard, FindsOneCookieAmongOthers) {
  EXPECT_EQ(CookieOf("a=1; storyfarm-7851=abc; b=2", "storyfarm-7851"), "abc");
  EXPECT_EQ(CookieOf("storyfarm-7851=abc", "storyfarm-7851"), "abc");
  EXPECT_EQ(CookieOf("storyfarm-78510=abc", "storyfarm-7851"), std::nullopt);
  EXPECT_EQ(CookieOf("xstoryfarm-7851=abc", "storyfarm-7851"), std::nullopt);
  EXPECT_EQ(CookieOf("", "storyfarm-7851"), std::nullopt);
}

TEST(RequestGuard, ReadsABearersTokenAndComparesItWhole) {
  EXPECT_EQ(BearerOf("Bearer abc"), "abc");
  EXPECT_EQ(BearerOf("bearer  abc "), "abc");
  EXPECT_EQ(BearerOf("Basic abc"), "");
  EXPECT_TRUE(SameSecret("abc", "abc"));
  EXPECT_FALSE(SameSecret("abc", "abd"));
  EXPECT_FALSE(SameSecret("", "abc"));
  EXPECT_FALSE(SameSecret("abc", "abcd"));
}

}  // namespace
}  // namespace storyfarm::coordinator
