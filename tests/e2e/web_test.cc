// The program's page and figures, with a worker that draws a story meanwhile, as a browser and Prometheus meet them.
#include <gtest/gtest.h>
#include <httplib.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "tests/coordinator/web/exposition.h"
#include "tests/e2e/fault_rig.h"

namespace storyfarm::e2e {
namespace {

using coordinator::Exposition;
using nlohmann::json;

// A browser that `storyctl web` logged in.
class Visitor {
 public:
  explicit Visitor(Farm& farm) {
    const std::string url = json::parse(farm.MustStoryctl({"web", "--json"}))["url"];
    const size_t path = url.find("/login#");
    origin_ = url.substr(0, path);
    httplib::Client client(origin_);
    const auto answer = client.Post("/api/login", {{"Origin", origin_}}, json{{"code", url.substr(path + 7)}}.dump(), "application/json");
    EXPECT_TRUE(answer && answer->status == 200) << (answer ? answer->body : "no answer");
    const std::string cookie = answer->get_header_value("Set-Cookie");
    headers_ = {{"Origin", origin_}, {"Cookie", cookie.substr(0, cookie.find(';'))}};
  }
  // The answer's status and body.
  std::pair<int, std::string> Get(const std::string& path) {
    httplib::Client client(origin_);
    const auto answer = client.Get(path, headers_);
    return answer ? std::pair(answer->status, answer->body) : std::pair(0, std::string());
  }
  int Post(const std::string& path) {
    httplib::Client client(origin_);
    const auto answer = client.Post(path, headers_, "{}", "application/json");
    return answer ? answer->status : 0;
  }
  // The job as its event stream tells it, until `enough`; tasks as they were told last.
  json Follow(const std::string& job, const std::function<bool(const json&)>& enough) {
    json last;
    std::string text;
    httplib::Client client(origin_);
    client.set_read_timeout(60);
    client.Get("/api/events?job=" + job, headers_, [&](const char* data, size_t size) {
      text.append(data, size);
      for (size_t end; (end = text.find("\n\n")) != std::string::npos; text.erase(0, end + 2)) {
        const std::string head = "event: job\ndata: ";
        if (text.compare(0, head.size(), head) == 0) last = json::parse(text.substr(head.size(), end - head.size()));
      }
      return last.is_null() || !enough(last);
    });
    return last;
  }

 private:
  std::string origin_;
  httplib::Headers headers_;
};

TEST(TheWebPage, FollowsAStoryToItsEndAndTheFiguresAddUp) {
  FarmOptions options = NullEngines(0);
  options.page = true;
  Farm farm(options);
  farm.StartCoordinator();
  farm.AddTinyModel();
  const std::string job = farm.SubmitStory(kPanels, 31);
  Visitor visitor(farm);
  EXPECT_EQ(visitor.Post("/api/jobs/" + job + "/pause"), 200);
  EXPECT_TRUE(farm.Status(job)["paused"].get<bool>());
  EXPECT_EQ(visitor.Post("/api/jobs/" + job + "/resume"), 200);
  farm.StartWorker("one");
  const json end = visitor.Follow(job, [](const json& status) { return status["state"] == "JOB_DONE"; });
  EXPECT_EQ(end["frames_done"], kPanels);
  EXPECT_EQ(visitor.Get("/readyz").first, 200);

  const auto [found, explained] = visitor.Get("/api/jobs/" + job + "/page/0/explain");
  EXPECT_EQ(found, 200);
  EXPECT_NE(explained.find("one did it"), std::string::npos) << explained;
  const auto [there, outputs] = visitor.Get("/api/jobs/" + job + "/outputs");
  EXPECT_EQ(there, 200);
  EXPECT_EQ(json::parse(json::parse(outputs)["metadata_json"].get<std::string>())["panels"].size(), kPanels);

  const Exposition metrics = Exposition::Parse(visitor.Get("/metrics").second);
  EXPECT_EQ(metrics.Value("storyfarm_jobs_ended_total{state=\"done\"}"), 1);
  EXPECT_EQ(metrics.Value("storyfarm_attempts_total{kind=\"identity\",result=\"done\"}"), end["identities_total"]);
  EXPECT_EQ(metrics.Value("storyfarm_attempts_total{kind=\"page\",result=\"done\"}"), end["pages_total"]);
  EXPECT_EQ(metrics.Value("storyfarm_attempts_total{kind=\"frame\",result=\"done\"}"),
            metrics.Value("storyfarm_attempt_seconds_count{kind=\"frame\"}"));
  EXPECT_GT(metrics.Value("storyfarm_records_total"), 0);
}

}  // namespace
}  // namespace storyfarm::e2e
