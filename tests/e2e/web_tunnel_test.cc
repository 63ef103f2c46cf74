// The farm's page in a browser on another machine, as far as a test can have one: a person who joined by code, over
// mutual TLS on loopback. The engines render nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/farm.h"
#include "tests/e2e/visitor.h"

namespace storyfarm::e2e {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

constexpr char kPage[] = "anns page";  // a process

class WebTunnelTest : public testing::Test {
 protected:
  static FarmOptions Options() {
    FarmOptions options;
    options.null_engine = true;
    options.step_ms = 20;
    options.page = true;
    options.coordinator_arguments = {"--network", "127.0.0.1:0"};
    return options;
  }
  WebTunnelTest() : farm_(Options()) {
    farm_.StartCoordinator();
    farm_.AddTinyModel();
  }
  void JoinAs(const std::string& role) {
    const json invited = json::parse(farm_.MustStoryctl({"user", "add", "ann", "--role", role, "--json"}));
    const Result joined = farm_.StoryctlOf("ann", {"join"}, invited["code"].get<std::string>());
    ASSERT_EQ(joined.exit_code, 0) << joined.err;
  }
  // The link that `storyctl web` prints on Ann's machine, while it goes on.
  std::string OpenPage() {
    farm_.BeginStoryctlOf("ann", kPage, {"web"});
    std::string link;
    farm_.WaitUntil("the link", [&] {
      const std::string said = farm_.Log(kPage);
      const size_t begin = said.find("http://127.0.0.1:");
      const size_t end = begin == std::string::npos ? begin : said.find('\n', begin);
      if (end != std::string::npos) link = said.substr(begin, end - begin);
      return !link.empty() || !farm_.Runs(kPage);
    });
    EXPECT_NE(link, "") << farm_.Logs();
    return link;
  }

  Farm farm_;
};

TEST_F(WebTunnelTest, AViewerElsewhereSeesAStoryDrawnAndPressesNothing) {
  JoinAs("viewer");
  const std::string link = OpenPage();
  Visitor ann(link);
  EXPECT_EQ(json::parse(ann.Get("/api/me").second)["role"], "viewer");
  const std::string job = farm_.SubmitStory(6, 3);
  farm_.StartWorker("here");
  const json end = ann.Follow(job, [](const json& status) { return status["state"] == "JOB_DONE"; });
  EXPECT_EQ(end["frames_done"], 6);
  for (const char* button : {"pause", "cancel", "retry", "remove"}) {
    const auto [status, body] = ann.Post("/api/jobs/" + job + "/" + button);
    EXPECT_EQ(status, 403) << button;
    EXPECT_THAT(body, HasSubstr("You are a viewer of this farm")) << button;
  }

  // Somebody's session of more rights does not help where the connection is a viewer's.
  const std::string admins = json::parse(farm_.MustStoryctl({"web", "--json"}))["url"];
  Visitor lent(admins, ann.origin());
  EXPECT_EQ(json::parse(lent.Get("/api/me").second)["role"], "viewer");
  EXPECT_EQ(lent.Post("/api/nodes/here/drain").first, 403);
  const Result more = farm_.StoryctlOf("ann", {"web", "--role", "admin"});
  EXPECT_EQ(more.exit_code, 5);
  EXPECT_THAT(more.err, HasSubstr("you are a viewer of this farm"));

  // Who has no session, another site's name and another site's page are refused as on the farm's own machine.
  EXPECT_EQ(ann.Get("/api/jobs", {}).first, 401);
  httplib::Headers foreign = ann.headers();
  foreign.emplace("Host", "evil.example:7851");
  EXPECT_EQ(ann.Get("/api/jobs", foreign).first, 403);
  httplib::Headers elsewhere = {{"Cookie", ann.headers().find("Cookie")->second}, {"Origin", "http://127.0.0.1:1"}};
  EXPECT_EQ(ann.Post("/api/logout", elsewhere).first, 403);
  const std::string code = link.substr(link.find('#') + 1);
  EXPECT_THAT(farm_.Log("farm"), Not(HasSubstr(code)));
}

TEST_F(WebTunnelTest, ASubmitterElsewhereSteersStoriesAndNotMachines) {
  JoinAs("submitter");
  Visitor ann(OpenPage());
  const std::string job = farm_.SubmitStory(2, 1);
  EXPECT_EQ(ann.Post("/api/jobs/" + job + "/pause").first, 200);
  EXPECT_TRUE(farm_.Status(job)["paused"].get<bool>());
  EXPECT_EQ(ann.Post("/api/nodes/here/drain").first, 403);
}

TEST_F(WebTunnelTest, EndsWhenItsMemberIsRemovedAlsoUnderAnOpenPage) {
  JoinAs("admin");
  Visitor ann(OpenPage());
  const std::string job = farm_.SubmitStory(2, 1);  // which nobody draws
  bool removed = false;
  ann.Follow(job, [&](const json&) {
    if (!std::exchange(removed, true)) farm_.MustStoryctl({"user", "remove", "ann"});
    return false;  // goes on until the stream is cut
  });
  EXPECT_TRUE(removed);
  EXPECT_EQ(farm_.WaitForExit(kPage), 5);
  EXPECT_THAT(farm_.Log(kPage), HasSubstr("has to join again with a new code"));
  EXPECT_EQ(ann.Get("/api/me").first, 0) << "nobody is there";
}

TEST_F(WebTunnelTest, GoesOnWhileTheCoordinatorIsAway) {
  JoinAs("viewer");
  Visitor ann(OpenPage());
  farm_.Stop("farm");
  EXPECT_EQ(ann.Get("/api/me").first, 0);
  EXPECT_TRUE(farm_.Runs(kPage));
}

}  // namespace
}  // namespace storyfarm::e2e
