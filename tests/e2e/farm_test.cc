// The whole farm with real processes and the real renderer: same pages whoever renders them and whoever dies.
#include "tests/e2e/farm.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <string>

namespace storyfarm::e2e {
namespace {

// The story's files from an undisturbed farm with one worker, rendered once for all tests.
const Files& UndisturbedDemo() {
  static const Files* const files = [] {
    Farm farm;
    farm.StartCoordinator();
    farm.StartWorker("one");
    const std::string job = farm.SubmitDemoStory();
    farm.WaitForEnd(job);
    return new Files(farm.Fetch(job));
  }();
  return *files;
}

TEST(FarmTest, ADemoStoryComesOutWithAllPanelsPagesPdfAndCbz) {
  const Files& files = UndisturbedDemo();
  size_t panels = 0, pages = 0;
  for (const auto& [name, bytes] : files) {
    panels += name.starts_with("panels/") ? 1 : 0;
    pages += name.starts_with("pages/") ? 1 : 0;
    EXPECT_FALSE(bytes.empty()) << name;
  }
  EXPECT_GE(panels, 12u);
  EXPECT_GE(pages, 3u);  // a page for each chapter at least
  EXPECT_TRUE(files.contains("story.pdf"));
  EXPECT_TRUE(files.contains("story.cbz"));
}

TEST(FarmTest, TwoAndThreeWorkersMakeTheSameBytesAsOne) {
  for (int workers = 2; workers <= 3; ++workers) {
    SCOPED_TRACE(workers);
    Farm farm;
    farm.StartCoordinator();
    for (int i = 0; i < workers; ++i) farm.StartWorker("worker-" + std::to_string(i));
    const std::string job = farm.SubmitDemoStory();
    farm.WaitForEnd(job);
    ExpectSame(farm.Fetch(job), UndisturbedDemo());
  }
}

TEST(FarmTest, AWorkerKilledMidwayChangesNoByte) {
  Farm farm;
  farm.StartCoordinator();
  farm.StartWorker("dies");
  const std::string job = farm.SubmitDemoStory();
  farm.WaitFor(job, "two frames", [](const nlohmann::json& status) { return status["frames_done"] >= 2; });
  farm.StartWorker("stays");
  farm.Kill("dies");
  farm.WaitForEnd(job);
  ExpectSame(farm.Fetch(job), UndisturbedDemo());
}

TEST(FarmTest, ACoordinatorKilledMidwayGoesOnAndNoFinishedFrameIsRenderedTwice) {
  Farm farm;
  farm.StartCoordinator();
  farm.StartWorker("one");
  farm.StartWorker("two");
  const std::string job = farm.SubmitDemoStory();
  farm.WaitFor(job, "two frames", [](const nlohmann::json& status) { return status["frames_done"] >= 2; });
  farm.Kill("farm");
  farm.StartCoordinator();
  farm.WaitForEnd(job);
  // Both workers lived on with what they held, so nothing was granted again.
  for (const nlohmann::json& task : farm.Status(job)["tasks"]) EXPECT_EQ(task["attempts"], 1) << task.dump(1);
  ExpectSame(farm.Fetch(job), UndisturbedDemo());
}

TEST(FarmTest, ASecondSubmitWithTheSameKeyIsTheSameJobAndAnotherStoryUnderItIsRefused) {
  Farm farm;
  farm.StartCoordinator();
  farm.MustStoryctl({"models", "add", "demo", std::string(STORYFARM_SOURCE_DIR) + "/deploy/examples/demo-model"});
  const std::string story = std::string(STORYFARM_SOURCE_DIR) + "/deploy/examples/stories/demo.yaml";
  const std::string job = farm.MustStoryctl({"submit", story, "--model", "demo", "--key", "night-1"});
  EXPECT_EQ(farm.MustStoryctl({"submit", story, "--model", "demo", "--key", "night-1"}), job);
  const std::string settings = farm.File("other.json");
  FILE* file = fopen(settings.c_str(), "w");
  ASSERT_NE(file, nullptr);
  fputs(R"({"steps": 7})", file);
  fclose(file);
  const Result refused =
      farm.Storyctl({"submit", story, "--model", "demo", "--key", "night-1", "--settings", settings});
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_NE(refused.err.find(job), std::string::npos) << refused.err;  // whose key it is
  farm.MustStoryctl({"cancel", job});
  EXPECT_NE(farm.Storyctl({"cancel", job}).exit_code, 0);  // it has ended: said, not repeated
}

}  // namespace
}  // namespace storyfarm::e2e
