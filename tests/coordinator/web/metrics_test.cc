// The exposition, read back the way Prometheus does.
#include "coordinator/web/metrics.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/web/exposition.h"

namespace storyfarm::coordinator {
namespace {

MetricsSource Example() {
  MetricsSource source;
  source.software_version = "1.2";
  source.open_pages = 3;
  farm::v1::Figures figures;
  auto& tasks = *figures.add_tasks();
  tasks.set_kind(farm::v1::TASK_FRAME);
  tasks.set_state(farm::v1::TASK_READY);
  tasks.set_tasks(40);
  auto& done = *figures.add_attempts();
  done.set_kind(farm::v1::TASK_FRAME);
  done.set_attempts(7);
  auto& lost = *figures.add_attempts();
  lost.set_kind(farm::v1::TASK_IDENTITY);
  lost.set_failure(farm::v1::OUT_OF_MEMORY);
  lost.set_attempts(2);
  auto& work = *figures.add_work_seconds();
  work.set_kind(farm::v1::TASK_PAGE);
  for (const double bound : {0.5, 1.0}) work.mutable_distribution()->add_bounds(bound);
  for (const uint64_t count : {1, 2, 4}) work.mutable_distribution()->add_counts(count);
  work.mutable_distribution()->set_sum(9.5);
  source.figures = figures;
  farm::v1::ListNodesResponse nodes;
  auto& node = *nodes.add_nodes();
  node.set_node_id("0123");
  node.set_name("the \"attic\"\\\n");
  node.set_connected(true);
  auto& device = *node.add_devices();
  device.mutable_report()->set_backend(farm::v1::CUDA);
  device.mutable_report()->set_total_bytes(24'000'000'000);
  device.mutable_memory()->set_farm_bytes(5'000'000'000);
  device.set_task("j-0123456789/frame/1");
  source.nodes = nodes;
  return source;
}

TEST(Metrics, TellTheQueueAttemptsAndMemory) {
  const Exposition metrics = Exposition::Parse(MetricsText(Example()));
  EXPECT_EQ(metrics.Value("storyfarm_build_info{version=\"1.2\"}"), 1);
  EXPECT_EQ(metrics.Value("storyfarm_leads"), 1);
  EXPECT_EQ(metrics.Value("storyfarm_web_pages_open"), 3);
  EXPECT_EQ(metrics.Value("storyfarm_tasks{kind=\"frame\",state=\"ready\"}"), 40);
  EXPECT_EQ(metrics.Value("storyfarm_attempts_total{kind=\"frame\",result=\"done\"}"), 7);
  EXPECT_EQ(metrics.Value("storyfarm_attempts_total{kind=\"identity\",result=\"out_of_memory\"}"), 2);
  const std::string device = "{node=\"the \\\"attic\\\"\\\\\\n\",node_id=\"0123\",device=\"0\",backend=\"cuda\"";
  EXPECT_EQ(metrics.Value("storyfarm_device_memory_bytes" + device + ",use=\"farm\"}"), 5e9);
  EXPECT_EQ(metrics.Value("storyfarm_device_memory_total_bytes" + device + "}"), 24e9);
  EXPECT_EQ(metrics.Value("storyfarm_device_busy" + device + "}"), 1);
}

TEST(Metrics, BucketsCountAllBelowThem) {
  const Exposition metrics = Exposition::Parse(MetricsText(Example()));
  EXPECT_EQ(metrics.Value("storyfarm_work_seconds_bucket{kind=\"page\",le=\"0.5\"}"), 1);
  EXPECT_EQ(metrics.Value("storyfarm_work_seconds_bucket{kind=\"page\",le=\"1\"}"), 3);
  EXPECT_EQ(metrics.Value("storyfarm_work_seconds_bucket{kind=\"page\",le=\"+Inf\"}"), 7);
  EXPECT_EQ(metrics.Value("storyfarm_work_seconds_count{kind=\"page\"}"), 7);
  EXPECT_EQ(metrics.Value("storyfarm_work_seconds_sum{kind=\"page\"}"), 9.5);
  EXPECT_EQ(metrics.Value("storyfarm_commit_seconds_bucket{le=\"+Inf\"}"), 0) << "also where nothing was measured yet";
}

TEST(Metrics, OfOneThatStandsByTellNothingOfTheFarm) {
  MetricsSource source = Example();
  source.figures = absl::UnavailableError("it stands by");
  source.nodes = absl::UnavailableError("it stands by");
  const Exposition metrics = Exposition::Parse(MetricsText(source));
  EXPECT_EQ(metrics.Value("storyfarm_leads"), 0);
  EXPECT_THAT(metrics.families(), testing::UnorderedElementsAre("storyfarm_build_info", "storyfarm_leads",
                                                                "storyfarm_web_pages_open"));
}

TEST(Metrics, TheDashboardAsksForNothingElse) {
  const Exposition metrics = Exposition::Parse(MetricsText(Example()));
  std::ifstream file(std::string(STORYFARM_SOURCE_DIR) + "/deploy/grafana/storyfarm.json");
  const nlohmann::json dashboard = nlohmann::json::parse(file);
  const std::regex name("storyfarm_[a-z_]+");
  int asked = 0;
  for (const nlohmann::json& panel : dashboard["panels"]) {
    for (const nlohmann::json& target : panel.value("targets", nlohmann::json::array())) {
      const std::string query = target["expr"];
      for (std::sregex_iterator found(query.begin(), query.end(), name), end; found != end; ++found, ++asked) {
        const std::string family = std::regex_replace(found->str(), std::regex("_bucket$"), "");
        EXPECT_EQ(metrics.families().count(family), 1u) << panel["title"] << ": " << query;
      }
    }
  }
  EXPECT_GT(asked, 20);
}

}  // namespace
}  // namespace storyfarm::coordinator
