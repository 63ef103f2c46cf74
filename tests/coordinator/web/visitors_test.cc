// Visitors from other machines, as the tunnel brings them: on a socket of their role.
#include <httplib.h>
#include <sys/socket.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "coordinator/web/web_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/web/fake_door.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::coordinator {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

class VisitorsTest : public testing::Test {
 protected:
  VisitorsTest()
      : log_(
            base::LogFormat::kText, [](std::string_view) {}, [] { return uint64_t{0}; }) {
    WebOptions options;
    options.address = "127.0.0.1:0";
    options.folder = folder_.File("web");
    options.visitor_sockets = {{farm::v1::ROLE_VIEWER, folder_.File("viewer.sock")},
                               {farm::v1::ROLE_SUBMITTER, folder_.File("submitter.sock")}};
    auto server = WebServer::Start(options, {&base::Env::Real(), &log_, &door_});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  // A browser that knows the page by another port than its own.
  std::unique_ptr<httplib::Client> Browser(const std::string& role) {
    auto client = std::make_unique<httplib::Client>(folder_.File(role + ".sock"), 80);
    client->set_address_family(AF_UNIX);
    client->set_default_headers({{"Host", kHost}});
    return client;
  }
  // The headers of a page that an admin's link logged in over that socket.
  httplib::Headers LogIn(const std::string& role) {
    const std::string link = server_->OpenLink({})->url();
    const auto answer =
        Browser(role)->Post("/api/login", {{"Origin", kOrigin}},
                            json{{"code", link.substr(link.find('#') + 1)}}.dump(), "application/json");
    EXPECT_TRUE(answer && answer->status == 200) << (answer ? answer->body : "no answer");
    const std::string cookie = answer->get_header_value("Set-Cookie");
    EXPECT_THAT(cookie, StartsWith("storyfarm-9876=")) << "by the port that the browser knows";
    EXPECT_EQ(json::parse(answer->body)["role"], role);
    return {{"Origin", kOrigin}, {"Cookie", cookie.substr(0, cookie.find(';'))}};
  }

  static constexpr char kHost[] = "127.0.0.1:9876";
  static constexpr char kOrigin[] = "http://127.0.0.1:9876";

  testing_support::TempFolder folder_;
  base::Log log_;
  FakeDoor door_;
  std::unique_ptr<WebServer> server_;
};

TEST_F(VisitorsTest, MayDoWhatTheirSocketsRoleMayWhateverTheirSession) {
  const httplib::Headers viewer = LogIn("viewer");
  EXPECT_EQ(json::parse(Browser("viewer")->Get("/api/me", viewer)->body)["role"], "viewer");
  EXPECT_EQ(Browser("viewer")->Get("/api/jobs", viewer)->status, 200);
  const auto refused = Browser("viewer")->Post("/api/jobs/j-1/pause", viewer, "{}", "application/json");
  EXPECT_EQ(refused->status, 403);
  EXPECT_THAT(refused->body, HasSubstr("storyctl user add --role submitter"));
  const httplib::Headers submitter = LogIn("submitter");
  EXPECT_EQ(Browser("submitter")->Post("/api/jobs/j-1/pause", submitter, "{}", "application/json")->status, 200);
  EXPECT_EQ(Browser("submitter")->Post("/api/nodes/n/drain", submitter, "{}", "application/json")->status, 403);
  EXPECT_EQ(Browser("viewer")->Post("/api/jobs/j-1/pause", submitter, "{}", "application/json")->status, 403);
}

TEST_F(VisitorsTest, AreToldNothingWithoutASessionOrUnderAForeignName) {
  EXPECT_EQ(Browser("viewer")->Get("/api/jobs")->status, 401);
  httplib::Headers viewer = LogIn("viewer");
  auto browser = Browser("viewer");
  browser->set_default_headers({{"Host", "farm.example:9876"}});
  EXPECT_EQ(browser->Get("/api/jobs", viewer)->status, 403);
  httplib::Headers other = {{"Cookie", viewer.find("Cookie")->second}, {"Origin", "http://127.0.0.1:7851"}};
  EXPECT_EQ(Browser("viewer")->Post("/api/logout", other, "{}", "application/json")->status, 403);
}

}  // namespace
}  // namespace storyfarm::coordinator
