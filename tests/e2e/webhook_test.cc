// The program's --webhook, with a receiver on loopback.
#include <gtest/gtest.h>
#include <httplib.h>

#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/fault_rig.h"

namespace storyfarm::e2e {
namespace {

class Receiver {
 public:
  Receiver() {
    server_.Post("/hook", [this](const httplib::Request& request, httplib::Response& response) {
      const std::lock_guard<std::mutex> lock(mutex_);
      response.status = status_;
      told_.push_back(nlohmann::json::parse(request.body));
      changed_.notify_all();
    });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();  // stop() before that would be lost
  }
  ~Receiver() {
    server_.stop();
    thread_.join();
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/hook"; }
  void AnswerWith(int status) {
    const std::lock_guard<std::mutex> lock(mutex_);
    status_ = status;
  }
  std::vector<nlohmann::json> WaitFor(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return told_.size() >= count; });
    return told_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int status_ = 503;
  std::vector<nlohmann::json> told_;
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
};

TEST(WhenTheCoordinatorIsKilledBeforeAReceiverTookAJobsEnd, ItIsToldByTheNextOneAndThenNoMore) {
  Receiver receiver;
  FarmOptions options = NullEngines(0);
  options.coordinator_arguments = {"--webhook", receiver.url()};
  Farm farm(options);
  farm.StartCoordinator();
  farm.StartWorker("one");
  farm.AddTinyModel();
  const std::string job = farm.SubmitStory(kPanels, 21);
  const nlohmann::json first = receiver.WaitFor(1)[0];
  EXPECT_EQ(first["job"], job);
  EXPECT_EQ(first["state"], "done");
  EXPECT_EQ(first["frames"], nlohmann::json({{"total", kPanels}, {"done", kPanels}, {"failed", 0}}));
  farm.Kill("farm");
  const size_t before = receiver.WaitFor(1).size();
  receiver.AnswerWith(204);
  farm.StartCoordinator();
  const std::vector<nlohmann::json> told = receiver.WaitFor(before + 1);
  EXPECT_EQ(told.back()["job"], job);
  EXPECT_NE(told.back()["attempt_id"], first["attempt_id"]);
  farm.WaitUntil("the log to say that it was told", [&farm] {
    return farm.Log("farm").find("webhook told of the job's end") != std::string::npos;
  });
  farm.Kill("farm");
  farm.StartCoordinator();
  const std::string next = farm.SubmitStory(kPanels, 22);
  const size_t known = told.size();
  EXPECT_EQ(receiver.WaitFor(known + 1)[known]["job"], next);
  farm.Stop("farm");
}

}  // namespace
}  // namespace storyfarm::e2e
