#include "tests/e2e/farm.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/time/time.h"
#include "pipeline/base/unique_fd.h"

namespace storyfarm::e2e {
namespace {

// Bounds on waiting; a busy machine of two cores renders the story in about ten seconds.
constexpr auto kPatience = std::chrono::minutes(2);
constexpr auto kLook = std::chrono::milliseconds(50);

std::string Program(const std::string& name) { return std::string(STORYFARM_BIN_DIR) + "/" + name; }

std::string Read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

void Kill(std::unique_ptr<base::Subprocess>& process) {
  process->Signal(SIGKILL);
  process->Wait(absl::Seconds(10));
  process.reset();
}

}  // namespace

Farm::~Farm() {
  for (auto& [name, worker] : workers_) worker->Stop(absl::Seconds(10));
  workers_.clear();
  if (coordinator_ != nullptr) {
    coordinator_->Stop(absl::Seconds(20));
    return;
  }
  // A killed coordinator leaves its Redis to the next one; so let one come and stop it.
  StartCoordinator();
  coordinator_->Stop(absl::Seconds(20));
}

void Farm::StartCoordinator() {
  base::SubprocessOptions options;
  options.program = Program("storyfarm-coordinator");
  options.arguments = {"--data", File("farm")};
  options.output_file = File("coordinator.log");
  auto started = base::Subprocess::Start(options);
  ASSERT_TRUE(started.ok()) << started.status();
  coordinator_ = *std::move(started);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (Storyctl({"jobs"}).exit_code != 0) {
    ASSERT_FALSE(coordinator_->Status().has_value()) << "the coordinator ended\n" << Logs();
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "the coordinator does not answer\n" << Logs();
    std::this_thread::sleep_for(kLook);
  }
}

void Farm::KillCoordinator() { Kill(coordinator_); }

void Farm::StartWorker(const std::string& name) {
  base::SubprocessOptions options;
  options.program = Program("storyfarm-worker");
  options.arguments = {"--data",    File(name), "--coordinator", "unix:" + File("farm/coordinator.sock"),
                       "--name",    name,       "--devices",     "cpu",
                       "--threads", "1"};
  options.output_file = File(name + ".log");
  auto started = base::Subprocess::Start(options);
  ASSERT_TRUE(started.ok()) << started.status();
  workers_[name] = *std::move(started);
}

void Farm::KillWorker(const std::string& name) {
  Kill(workers_[name]);
  workers_.erase(name);
}

Result Farm::Storyctl(const std::vector<std::string>& arguments) {
  const std::string stem = File("call-" + std::to_string(calls_++));
  base::UniqueFd out(open((stem + ".out").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  base::UniqueFd err(open((stem + ".err").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  base::SubprocessOptions options;
  options.program = Program("storyctl");
  options.arguments = arguments;
  options.environment = {{"STORYFARM_FARM", "unix:" + File("farm/coordinator.sock")}};
  options.descriptors = {{out.get(), 1}, {err.get(), 2}};
  Result result;
  auto started = base::Subprocess::Start(options);
  if (!started.ok()) {
    ADD_FAILURE() << started.status();
    return result;
  }
  const auto ended = (*started)->Wait(absl::FromChrono(kPatience));
  result.exit_code = ended.has_value() && ended->signal == 0 ? ended->code : -1;
  result.out = Read(stem + ".out");
  result.err = Read(stem + ".err");
  return result;
}

std::string Farm::MustStoryctl(const std::vector<std::string>& arguments) {
  Result result = Storyctl(arguments);
  EXPECT_EQ(result.exit_code, 0) << "storyctl " << (arguments.empty() ? "" : arguments[0]) << ": " << result.err << "\n"
                                 << Logs();
  while (!result.out.empty() && result.out.back() == '\n') result.out.pop_back();
  return result.out;
}

nlohmann::json Farm::Status(const std::string& job) {
  const Result result = Storyctl({"status", job, "--tasks", "--json"});
  if (result.exit_code != 0) return nullptr;
  return nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
}

std::string Farm::SubmitDemoStory() {
  const std::string examples = std::string(STORYFARM_SOURCE_DIR) + "/deploy/examples";
  std::ofstream(File("settings.json")) << R"({"steps": 3, "reproducible": true})";
  MustStoryctl({"models", "add", "demo", examples + "/demo-model"});
  return MustStoryctl(
      {"submit", examples + "/stories/demo.yaml", "--model", "demo", "--settings", File("settings.json")});
}

void Farm::WaitFor(const std::string& job, const std::string& what,
                   const std::function<bool(const nlohmann::json&)>& enough) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    const nlohmann::json status = Status(job);
    if (status.is_object() && enough(status)) return;
    ASSERT_LT(std::chrono::steady_clock::now(), deadline)
        << "waited for " << what << "; the job is " << status.dump(1) << "\n"
        << Logs();
    std::this_thread::sleep_for(kLook);
  }
}

void Farm::WaitForEnd(const std::string& job) {
  WaitFor(job, "the job's end",
          [](const nlohmann::json& status) { return status["state"] != "queued" && status["state"] != "running"; });
  EXPECT_EQ(Status(job)["state"], "done") << Status(job).dump(1) << "\n" << Logs();
}

std::map<std::string, std::string> Farm::Fetch(const std::string& job) {
  const std::filesystem::path out = File("fetched-" + job);
  MustStoryctl({"fetch", job, "--out", out.string()});
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(out)) {
    if (!entry.is_regular_file() || entry.path().filename() == "metadata.json") continue;
    files[std::filesystem::relative(entry.path(), out).string()] = Read(entry.path());
  }
  return files;
}

std::string Farm::Logs() const {
  std::string text;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    if (entry.path().extension() != ".log") continue;
    const std::string log = Read(entry.path());
    text += "== " + entry.path().filename().string() + "\n" + log.substr(log.size() > 4000 ? log.size() - 4000 : 0);
  }
  return text;
}

}  // namespace storyfarm::e2e
