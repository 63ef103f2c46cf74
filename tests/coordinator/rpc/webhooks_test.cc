// Who is told of a job's end, and how often, over refusals and restarts.
#include "coordinator/rpc/webhooks.h"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/rpc/test_farm.h"

namespace storyfarm::coordinator {
namespace {

// A receiver that answers as it is told; where nothing is left to answer, it waits.
class Receiver {
 public:
  void Answer(std::vector<absl::Status> answers) {
    const std::lock_guard<std::mutex> lock(mutex_);
    answers_.insert(answers_.end(), answers.begin(), answers.end());
    changed_.notify_all();
  }
  std::vector<nlohmann::json> WaitFor(size_t posts) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return posts_.size() >= posts; });
    return posts_;
  }

  class Sender : public WebhookSender {
   public:
    explicit Sender(Receiver* receiver) : receiver_(*receiver) {}
    absl::Status Post(const std::string& body) override {
      std::unique_lock<std::mutex> lock(receiver_.mutex_);
      receiver_.posts_.push_back(nlohmann::json::parse(body));
      receiver_.changed_.notify_all();
      receiver_.changed_.wait(lock, [this] { return interrupted_ || !receiver_.answers_.empty(); });
      if (interrupted_) return absl::CancelledError("interrupted");
      const absl::Status answer = receiver_.answers_.front();
      receiver_.answers_.pop_front();
      return answer;
    }
    void Interrupt() override {
      const std::lock_guard<std::mutex> lock(receiver_.mutex_);
      interrupted_ = true;
      receiver_.changed_.notify_all();
    }

   private:
    Receiver& receiver_;
    bool interrupted_ = false;
  };

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<absl::Status> answers_;
  std::vector<nlohmann::json> posts_;
};

class WebhooksTest : public testing::Test {
 protected:
  void SetUp() override {
    farm_.webhook = [this] { return std::make_unique<Receiver::Sender>(&receiver_); };
    farm_.MustStart();
  }
  // The id of a job that was submitted and has ended.
  std::string EndedJob(const std::string& key) {
    Client client(farm_.target());
    client.AddTinyModel();
    const std::string job = client.MustSubmit(key);
    grpc::ClientContext context;
    farm::v1::CancelJobRequest request;
    request.set_job_id(job);
    farm::v1::JobStatus status;
    EXPECT_TRUE(client.farm->CancelJob(&context, request, &status).ok());
    return job;
  }
  // Until the log says that nobody need be told of the job's end any more.
  void WaitUntilSettled(const std::string& job) {
    MemoryStore log(farm_.shared_disk());
    for (bool settled = false; !settled; std::this_thread::yield()) {
      const auto end = log.Load([](const Snapshot&) { return absl::OkStatus(); },
                                [&](const farm::v1::RecordBatch& batch) {
                                  for (const farm::v1::Record& record : batch.records()) {
                                    settled |= record.notice_settled().job_id() == job;
                                  }
                                  return absl::OkStatus();
                                });
      ASSERT_TRUE(end.ok()) << end.status();
    }
  }
  void Restart() {
    farm_.Kill();
    farm_.MustStart();
  }

  Receiver receiver_;  // outlives the farm
  TestFarm farm_;
};

TEST_F(WebhooksTest, TheEndOfAJobIsToldWithItsCountsAndNothingOfItsStory) {
  receiver_.Answer({absl::OkStatus()});
  const std::string job = EndedJob("k");
  const nlohmann::json body = receiver_.WaitFor(1)[0];
  EXPECT_EQ(body["event"], "job_ended");
  EXPECT_EQ(body["job"], job);
  EXPECT_EQ(body["state"], "cancelled");
  EXPECT_EQ(body["frames"], nlohmann::json({{"total", 4}, {"done", 0}, {"failed", 0}}));
  EXPECT_EQ(body["attempt"], 1);
  std::set<std::string> keys;
  for (const auto& [key, value] : body.items()) keys.insert(key);
  EXPECT_THAT(keys, testing::ElementsAre("attempt", "attempt_id", "event", "finished_unix_ms", "frames", "job",
                                         "pages", "state"));
  EXPECT_THAT(body.dump(), testing::Not(testing::HasSubstr("Ann")));
  EXPECT_THAT(body.dump(), testing::Not(testing::HasSubstr("Friends")));
}

TEST_F(WebhooksTest, AReceiverThatRefusesIsToldAgainUnderAnotherAttempt) {
  receiver_.Answer({absl::UnavailableError("away"), absl::OkStatus()});
  EndedJob("k");
  const std::vector<nlohmann::json> posts = receiver_.WaitFor(2);
  EXPECT_EQ(posts[1]["job"], posts[0]["job"]);
  EXPECT_EQ(posts[1]["attempt"], 2);
  EXPECT_NE(posts[1]["attempt_id"], posts[0]["attempt_id"]);
}

TEST_F(WebhooksTest, ACoordinatorThatDiesWhileItTellsTellsAgainWhenItIsBackAndThenNoMore) {
  const std::string job = EndedJob("k");
  receiver_.WaitFor(1);  // no answer comes
  Restart();
  EXPECT_EQ(receiver_.WaitFor(2)[1]["job"], job);
  receiver_.Answer({absl::OkStatus()});
  const std::string next = EndedJob("k2");
  EXPECT_EQ(receiver_.WaitFor(3)[2]["job"], next);
  WaitUntilSettled(job);
  Restart();
  const std::vector<nlohmann::json> posts = receiver_.WaitFor(4);
  for (size_t i = 3; i < posts.size(); ++i) EXPECT_NE(posts[i]["job"], job);
}

TEST_F(WebhooksTest, AReceiverThatHangsHoldsNobodyElseUp) {
  EndedJob("k");
  receiver_.WaitFor(1);  // it hangs from here on
  for (int i = 0; i < 10; ++i) EndedJob(absl::StrCat("other-", i));
  farm_.Kill();
  EXPECT_EQ(receiver_.WaitFor(1).size(), 1u);
}

}  // namespace
}  // namespace storyfarm::coordinator
