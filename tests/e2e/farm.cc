#include "tests/e2e/farm.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "pipeline/base/unique_fd.h"

namespace storyfarm::e2e {
namespace {

namespace fs = std::filesystem;

// Bounds on waiting; a busy machine of two cores renders the story in about ten seconds.
constexpr auto kPatience = std::chrono::minutes(2);
constexpr auto kLook = std::chrono::milliseconds(50);

std::string Program(const std::string& name) { return std::string(STORYFARM_BIN_DIR) + "/" + name; }
std::string Source(const std::string& path) { return std::string(STORYFARM_SOURCE_DIR) + "/" + path; }

std::string Read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

void ExpectSame(const Files& actual, const Files& expected) {
  for (const auto& [name, bytes] : expected) {
    const auto found = actual.find(name);
    if (found == actual.end()) {
      ADD_FAILURE() << name << " is missing";
    } else {
      EXPECT_TRUE(found->second == bytes)
          << name << " differs (" << found->second.size() << " and " << bytes.size() << " bytes)";
    }
  }
  EXPECT_EQ(actual.size(), expected.size());
}

Farm::Farm(FarmOptions options) : options_(std::move(options)) {}

Farm::~Farm() {
  // Whatever was frozen must run again to end.
  for (auto& [name, process] : processes_) process->Signal(SIGCONT);
  bool led = false;
  for (auto& [name, process] : processes_) {
    const bool coordinator = std::find(coordinators_.begin(), coordinators_.end(), name) != coordinators_.end();
    led = led || (coordinator && Runs(name));
    if (name != "redis" && !coordinator) process->Stop(absl::Seconds(10));
  }
  // A killed coordinator leaves its private Redis to the next one; so let one come and stop it.
  if (!led && !options_.own_redis && !coordinators_.empty()) BeginCoordinator(coordinators_[0]);
  for (const std::string& name : coordinators_) processes_.at(name)->Stop(absl::Seconds(20));
  if (processes_.count("redis") > 0) processes_.at("redis")->Stop(absl::Seconds(10));
}

void Farm::Begin(const std::string& name, base::SubprocessOptions options) {
  options.output_file = File(name + ".log");
  auto started = base::Subprocess::Start(options);
  ASSERT_TRUE(started.ok()) << started.status();
  processes_[name] = *std::move(started);
}

void Farm::StartRedis() {
  base::SubprocessOptions options;
  options.program = "redis-server";
  options.arguments = {"--port",        "0",
                       "--unixsocket",  File("redis.sock"),
                       "--dir",         folder_.path(),
                       "--save",        "",
                       "--appendonly",  "yes",
                       "--appendfsync", "always"};
  Begin("redis", options);
}

void Farm::BeginCoordinator(const std::string& name) {
  base::SubprocessOptions options;
  options.program = Program("storyfarm-coordinator");
  options.arguments = {"--data", File(name), "--web", options_.page ? "127.0.0.1:0" : "off"};
  options.arguments.insert(options.arguments.end(), options_.coordinator_arguments.begin(),
                           options_.coordinator_arguments.end());
  if (options_.own_redis) {
    if (processes_.count("redis") == 0) {
      StartRedis();
      WaitUntil("Redis's socket", [this] { return fs::exists(File("redis.sock")); });
    }
    for (const std::string& word :
         {std::string("--redis"), "unix://" + File("redis.sock"), std::string("--blobs"), File("blobs")}) {
      options.arguments.push_back(word);
    }
  }
  if (std::find(coordinators_.begin(), coordinators_.end(), name) == coordinators_.end()) {
    coordinators_.push_back(name);
  }
  Begin(name, options);
}

void Farm::StartCoordinator(const std::string& name) {
  BeginCoordinator(name);
  WaitUntil("the coordinator", [this, &name] {
    EXPECT_TRUE(Runs(name)) << "the coordinator ended\n" << Logs();
    return !Runs(name) || Storyctl({"jobs"}).exit_code == 0;
  });
}

base::SubprocessOptions Farm::Worker(const std::string& name) const {
  base::SubprocessOptions options;
  options.program = Program("storyfarm-worker");
  options.arguments = {"--data", File(name), "--name", name, "--devices", "cpu", "--threads", "1",
                       "--peers", "127.0.0.1:0"};
  if (options_.null_engine) {
    fs::create_directories(File("marks-" + name));
    options.environment = {{"STORYFARM_ENGINE", Program("fake_engine")},
                           {"FAKE_ENGINE_MARKS", File("marks-" + name)},
                           {"FAKE_ENGINE_RENDERS", File("renders")},
                           {"FAKE_ENGINE_STEP_MS", std::to_string(options_.step_ms)},
                           {"FAKE_ENGINE_IMAGE_BYTES", std::to_string(options_.image_bytes)}};
  }
  return options;
}

void Farm::StartWorker(const std::string& name, const Variables& environment, const std::string& target) {
  base::SubprocessOptions options = Worker(name);
  options.arguments.push_back("--coordinator");
  options.arguments.push_back(target.empty() ? Target() : target);
  options.environment.insert(options.environment.end(), environment.begin(), environment.end());
  Begin(name, options);
}

void Farm::StartJoiningWorker(const std::string& name, const std::string& code,
                              const std::vector<std::string>& arguments) {
  std::ofstream(File(name + ".code")) << code << "\n";
  const base::UniqueFd typed(open(File(name + ".code").c_str(), O_RDONLY | O_CLOEXEC));
  base::SubprocessOptions options = Worker(name);
  options.arguments.push_back("--join");
  options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
  options.descriptors = {{typed.get(), 0}};
  Begin(name, options);
}

void Farm::StartWorkerWithCodeFile(const std::string& name) {
  base::SubprocessOptions options = Worker(name);
  options.arguments.insert(options.arguments.end(), {"--join-with", File(name + ".code")});
  Begin(name, options);
}

bool Farm::Runs(const std::string& name) const {
  const auto found = processes_.find(name);
  return found != processes_.end() && !found->second->Status().has_value();
}

void Farm::Kill(const std::string& name) {
  processes_.at(name)->Signal(SIGKILL);
  processes_.at(name)->Wait(absl::Seconds(10));
}

void Farm::Stop(const std::string& name) { processes_.at(name)->Stop(absl::Seconds(20)); }
void Farm::Signal(const std::string& name, int signal_number) { processes_.at(name)->Signal(signal_number); }

void Farm::KillPrivateRedis() {
  // Redis shows its socket as its title.
  const std::string title = "unixsocket:" + File("farm/redis/redis.sock");
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (!std::all_of(name.begin(), name.end(), isdigit)) continue;
    if (Read(entry.path() / "cmdline").find(title) != std::string::npos) kill(std::stoi(name), SIGKILL);
  }
}

int Farm::KillEngines(const std::string& worker) {
  int killed = 0;
  for (const auto& entry : fs::directory_iterator(File("marks-" + worker))) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("pid-")) continue;
    const std::string pid = name.substr(4);
    // A number may be another process's by now.
    if (Read(fs::path("/proc") / pid / "cmdline").find("fake_engine") == std::string::npos) continue;
    if (kill(std::stoi(pid), SIGKILL) == 0) ++killed;
  }
  return killed;
}

std::string Farm::Target(const std::string& coordinator) const {
  return "unix:" + File(coordinator + "/coordinator.sock");
}

std::string Farm::Target() const {
  return absl::StrJoin(coordinators_, ",", [this](std::string* out, const std::string& name) { *out += Target(name); });
}

Result Farm::Storyctl(const std::vector<std::string>& arguments, const std::string& target) {
  base::SubprocessOptions options;
  options.program = Program("storyctl");
  options.arguments = arguments;
  options.environment = {{"STORYFARM_FARM", target.empty() ? Target() : target}};
  return Call(std::move(options));
}

base::SubprocessOptions Farm::Person(const std::string& person, const std::vector<std::string>& arguments) const {
  fs::create_directories(File("home-" + person));
  base::SubprocessOptions options;
  options.program = Program("storyctl");
  options.arguments = arguments;
  options.environment = {
      {"HOME", File("home-" + person)}, {"XDG_DATA_HOME", ""}, {"STORYFARM_FARM", ""}, {"USER", person}};
  return options;
}

void Farm::BeginStoryctlOf(const std::string& person, const std::string& name,
                           const std::vector<std::string>& arguments) {
  Begin(name, Person(person, arguments));
}

int Farm::WaitForExit(const std::string& name) {
  const auto ended = processes_.at(name)->Wait(absl::FromChrono(kPatience));
  EXPECT_TRUE(ended.has_value()) << name << " goes on\n" << Logs();
  return ended.has_value() && ended->signal == 0 ? ended->code : -1;
}

Result Farm::StoryctlOf(const std::string& person, const std::vector<std::string>& arguments,
                        const std::string& input) {
  std::ofstream(File(person + ".typed")) << input << "\n";
  const base::UniqueFd typed(open(File(person + ".typed").c_str(), O_RDONLY | O_CLOEXEC));
  base::SubprocessOptions options = Person(person, arguments);
  options.descriptors = {{typed.get(), 0}};
  return Call(std::move(options));
}

Result Farm::Call(base::SubprocessOptions options) {
  const std::string stem = File("call-" + std::to_string(calls_++));
  base::UniqueFd out(open((stem + ".out").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  base::UniqueFd err(open((stem + ".err").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  options.descriptors.emplace_back(out.get(), 1);
  options.descriptors.emplace_back(err.get(), 2);
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
  fs::remove(stem + ".out");
  fs::remove(stem + ".err");
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
  std::ofstream(File("settings.json")) << R"({"steps": 3, "reproducible": true})";
  MustStoryctl({"models", "add", "demo", Source("deploy/examples/demo-model")});
  return MustStoryctl(
      {"submit", Source("deploy/examples/stories/demo.yaml"), "--model", "demo", "--settings", File("settings.json")});
}

void Farm::AddTinyModel() { MustStoryctl({"models", "add", "tiny", Source("tests/data/tiny_sdxl")}); }

std::string Farm::SubmitStory(int panels, int seed, const std::string& key) {
  std::ofstream story(File("story.yaml"));
  story << "title: A story of faults\ncharacters:\n  Ann: a girl in a red coat\n  Bo: a small grey dog\nchapters:\n";
  const int a_chapter = std::max(12, panels / 100);
  for (int panel = 0; panel < panels; ++panel) {
    if (panel % a_chapter == 0) story << "  - title: chapter " << panel / a_chapter << "\n    panels:\n";
    story << "      - \""
          << (panel % 3 == 0   ? "[Ann]"
              : panel % 3 == 1 ? "[Bo]"
                               : "[NC] a tree")
          << " is seen " << panel << " #Picture " << panel << ".\"\n";
  }
  story << "settings:\n  steps: 3\n  reproducible: true\n  seed: " << seed << "\n";
  story.close();
  std::vector<std::string> words = {"submit", File("story.yaml"), "--model", "tiny"};
  if (!key.empty()) {
    words.push_back("--key");
    words.push_back(key);
  }
  return MustStoryctl(words);
}

void Farm::WaitUntil(const std::string& what, const std::function<bool()>& enough) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!enough()) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "waited for " << what << "\n" << Logs();
    std::this_thread::sleep_for(kLook);
  }
}

void Farm::WaitFor(const std::string& job, const std::string& what,
                   const std::function<bool(const nlohmann::json&)>& enough) {
  WaitUntil(what, [&] {
    const nlohmann::json status = Status(job);
    return status.is_object() && enough(status);
  });
}

void Farm::WaitForEnd(const std::string& job) {
  WaitFor(job, "the job's end",
          [](const nlohmann::json& status) { return status["state"] != "queued" && status["state"] != "running"; });
  EXPECT_EQ(Status(job)["state"], "done") << Status(job).dump(1) << "\n" << Logs();
}

Files Farm::Fetch(const std::string& job) {
  const fs::path out = File("fetched-" + job);
  MustStoryctl({"fetch", job, "--out", out.string()});
  Files files;
  for (const auto& entry : fs::recursive_directory_iterator(out)) {
    if (!entry.is_regular_file() || entry.path().filename() == "metadata.json") continue;
    files[fs::relative(entry.path(), out).string()] = Read(entry.path());
  }
  return files;
}

std::map<std::string, int> Farm::Renders() const {
  std::map<std::string, int> renders;
  std::ifstream lines(File("renders"));
  for (std::string line; std::getline(lines, line);) ++renders[line];
  return renders;
}

std::string Farm::Log(const std::string& name) const { return Read(File(name + ".log")); }

std::string Farm::Logs() const {
  std::string text;
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    if (entry.path().extension() != ".log") continue;
    const std::string log = Read(entry.path());
    text += "== " + entry.path().filename().string() + "\n" + log.substr(log.size() > 4000 ? log.size() - 4000 : 0);
  }
  return text;
}

}  // namespace storyfarm::e2e
