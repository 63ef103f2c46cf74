// A farm of real processes for a test: one coordinator with its private Redis, workers with real engines, all in one
// temporary folder and all gone at the end.
#ifndef STORYFARM_TESTS_E2E_FARM_H_
#define STORYFARM_TESTS_E2E_FARM_H_

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipeline/base/subprocess.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::e2e {

struct Result {
  int exit_code = -1;
  std::string out;
  std::string err;
};

class Farm {
 public:
  Farm() = default;
  ~Farm();

  void StartCoordinator();  // and waits until it answers
  void KillCoordinator();   // SIGKILL; its private Redis stays behind for the next one to adopt
  void StartWorker(const std::string& name);
  void KillWorker(const std::string& name);  // SIGKILL

  // Runs storyctl against this farm and waits for it.
  Result Storyctl(const std::vector<std::string>& arguments);
  // The same; fails the test where it does not succeed.
  std::string MustStoryctl(const std::vector<std::string>& arguments);
  // `storyctl status JOB --tasks --json`; null while nobody answers.
  nlohmann::json Status(const std::string& job);

  // Adds the demo model, submits the demo story with few steps; returns the job.
  std::string SubmitDemoStory();
  // Looks at the job until `enough` says so. Fails the test after two minutes.
  void WaitFor(const std::string& job, const std::string& what,
               const std::function<bool(const nlohmann::json&)>& enough);
  void WaitForEnd(const std::string& job);
  // Everything that the job made but metadata, by path: name -> bytes.
  std::map<std::string, std::string> Fetch(const std::string& job);

  std::string File(const std::string& name) const { return folder_.File(name); }
  // What the programs logged, for a failed test's message.
  std::string Logs() const;

 private:
  testing_support::TempFolder folder_;
  std::unique_ptr<base::Subprocess> coordinator_;
  std::map<std::string, std::unique_ptr<base::Subprocess>> workers_;
  int calls_ = 0;
};

}  // namespace storyfarm::e2e

#endif  // STORYFARM_TESTS_E2E_FARM_H_
