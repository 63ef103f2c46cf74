// The program's page and figures, with a worker that draws a story meanwhile, as a browser and Prometheus meet them.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/coordinator/web/exposition.h"
#include "tests/e2e/fault_rig.h"
#include "tests/e2e/visitor.h"

namespace storyfarm::e2e {
namespace {

using coordinator::Exposition;
using nlohmann::json;

TEST(TheWebPage, FollowsAStoryToItsEndAndTheFiguresAddUp) {
  FarmOptions options = NullEngines(0);
  options.page = true;
  Farm farm(options);
  farm.StartCoordinator();
  farm.AddTinyModel();
  const std::string job = farm.SubmitStory(kPanels, 31);
  Visitor visitor(json::parse(farm.MustStoryctl({"web", "--json"}))["url"].get<std::string>());
  EXPECT_EQ(visitor.Post("/api/jobs/" + job + "/pause").first, 200);
  EXPECT_TRUE(farm.Status(job)["paused"].get<bool>());
  EXPECT_EQ(visitor.Post("/api/jobs/" + job + "/resume").first, 200);
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
