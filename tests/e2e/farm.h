// A farm of real processes for a test: coordinators, Redis, workers and their engines, all in one temporary folder and
// all gone at the end.
#ifndef STORYFARM_TESTS_E2E_FARM_H_
#define STORYFARM_TESTS_E2E_FARM_H_

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/base/subprocess.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::e2e {

struct Result {
  int exit_code = -1;
  std::string out;
  std::string err;
};

using Files = std::map<std::string, std::string>;  // name -> bytes
using Variables = std::vector<std::pair<std::string, std::string>>;

// Names and sizes first: a difference in bytes alone would print megabytes.
void ExpectSame(const Files& actual, const Files& expected);

struct FarmOptions {
  bool null_engine = false;  // tests/support/fake_engine.cc in place of the renderer
  int step_ms = 0;           // that it takes for a step
  int image_bytes = 0;       // of each picture; 0: a line
  bool page = false;         // served on any free port
  bool own_redis = false;    // a Redis that several coordinators share, in place of the private one
  std::vector<std::string> coordinator_arguments;  // of every coordinator, beside those that the farm gives it
};

class Farm {
 public:
  explicit Farm(FarmOptions options = {});
  ~Farm();

  // A process is known by its name. The first coordinator is "farm"; its log is "farm.log", and so on.
  void StartCoordinator(const std::string& name = "farm");  // and waits until the farm is served
  void BeginCoordinator(const std::string& name);           // does not wait
  void StartWorker(const std::string& name, const Variables& environment = {}, const std::string& target = "");
  // A machine of its own, as far as a test can have one: it joins with a code and is told no address.
  void StartJoiningWorker(const std::string& name, const std::string& code,
                          const std::vector<std::string>& arguments = {});
  // One that finds a code in File(NAME + ".code") where it has not joined yet.
  void StartWorkerWithCodeFile(const std::string& name);
  void StartRedis();                   // own_redis; StartCoordinator does it where there is none
  void Kill(const std::string& name);  // SIGKILL; a private Redis stays behind for the next coordinator to adopt
  void Stop(const std::string& name);  // SIGTERM, and waits
  void Signal(const std::string& name, int signal_number);
  bool Runs(const std::string& name) const;
  void KillPrivateRedis();
  // The engines of a worker that runs; how many.
  int KillEngines(const std::string& worker);

  // Runs storyctl against this farm and waits for it.
  Result Storyctl(const std::vector<std::string>& arguments, const std::string& target = "");
  // Runs storyctl as a person elsewhere, whose home is a folder of this farm's, and who types `input`.
  Result StoryctlOf(const std::string& person, const std::vector<std::string>& arguments,
                    const std::string& input = "");
  // The same, without waiting: a process of this name.
  void BeginStoryctlOf(const std::string& person, const std::string& name, const std::vector<std::string>& arguments);
  // Waits for the end of a process that ends by itself; its exit code.
  int WaitForExit(const std::string& name);
  // Storyctl; fails the test where it does not succeed.
  std::string MustStoryctl(const std::vector<std::string>& arguments);
  // `storyctl status JOB --tasks --json`; null while nobody answers.
  nlohmann::json Status(const std::string& job);

  // Adds the demo model, submits the demo story with few steps; returns the job.
  std::string SubmitDemoStory();
  // A story of so many panels in chapters of a dozen or a hundredth, with two characters, whose pictures follow from
  // `seed`.
  std::string SubmitStory(int panels, int seed, const std::string& key = "");
  void AddTinyModel();
  // Looks at the job until `enough` says so. Fails the test after two minutes.
  void WaitFor(const std::string& job, const std::string& what,
               const std::function<bool(const nlohmann::json&)>& enough);
  void WaitForEnd(const std::string& job);
  void WaitUntil(const std::string& what, const std::function<bool()>& enough);
  // Everything that the job made but metadata.
  Files Fetch(const std::string& job);
  // How often the null engines of this farm finished each frame: "panel seed" -> times.
  std::map<std::string, int> Renders() const;

  std::string File(const std::string& name) const { return folder_.File(name); }
  std::string Log(const std::string& name) const;
  // What storyctl and workers are told: every coordinator that was begun.
  std::string Target() const;
  std::string Target(const std::string& coordinator) const;
  // The ends of all logs, for a failed test's message.
  std::string Logs() const;

 private:
  void Begin(const std::string& name, base::SubprocessOptions options);
  base::SubprocessOptions Worker(const std::string& name) const;
  base::SubprocessOptions Person(const std::string& person, const std::vector<std::string>& arguments) const;
  Result Call(base::SubprocessOptions options);

  const FarmOptions options_;
  testing_support::TempFolder folder_;
  std::map<std::string, std::unique_ptr<base::Subprocess>> processes_;
  std::vector<std::string> coordinators_;
  int calls_ = 0;
};

}  // namespace storyfarm::e2e

#endif  // STORYFARM_TESTS_E2E_FARM_H_
