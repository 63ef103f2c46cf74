// Requests as a receiver sees them, over loopback.
#include "coordinator/web/webhook.h"

#include <httplib.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace storyfarm::coordinator {
namespace {

using testing::HasSubstr;

// An HTTP server on a free port.
class Receiver {
 public:
  Receiver() {
    server_.Post("/hook", [this](const httplib::Request& request, httplib::Response& response) {
      const std::lock_guard<std::mutex> lock(mutex_);
      bodies_.push_back(request.body);
      types_.push_back(request.get_header_value("Content-Type"));
      response.status = status_;
      if (status_ == 302) response.set_header("Location", "/elsewhere");
      if (answer_bytes_ == 0) return;
      response.set_content_provider(answer_bytes_, "text/plain", [](size_t, size_t left, httplib::DataSink& sink) {
        const std::string piece(std::min<size_t>(left, 1 << 16), 'x');
        return sink.write(piece.data(), piece.size());
      });
    });
    server_.Post("/elsewhere", [this](const httplib::Request&, httplib::Response&) { followed_ = true; });
    server_.Post("/hangs", [this](const httplib::Request&, httplib::Response&) {
      std::unique_lock<std::mutex> lock(mutex_);
      hangs_ = true;
      changed_.notify_all();
      changed_.wait(lock, [this] { return released_; });
    });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();  // stop() before that would be lost
  }
  ~Receiver() {
    Release();
    server_.stop();
    thread_.join();
  }
  std::string Url(const std::string& path) const { return absl::StrCat("http://127.0.0.1:", port_, path); }
  void WaitUntilItHangs() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return hangs_; });
  }
  void Release() {
    const std::lock_guard<std::mutex> lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }

  // What the requests from now on are answered.
  void Answer(int status, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    status_ = status;
    answer_bytes_ = bytes;
  }
  std::vector<std::string> bodies() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return bodies_;
  }
  std::vector<std::string> types() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return types_;
  }
  bool followed() const { return followed_; }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> bodies_;
  std::vector<std::string> types_;
  int status_ = 200;
  size_t answer_bytes_ = 0;
  std::atomic<bool> followed_ = false;
  std::condition_variable changed_;
  bool hangs_ = false;
  bool released_ = false;
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
};

TEST(Webhook, PostsTheBodyAsJsonToItsPath) {
  Receiver receiver;
  const auto webhook = Webhook::To(receiver.Url("/hook"));
  ASSERT_TRUE(webhook.ok()) << webhook.status();
  EXPECT_TRUE((*webhook)->Post("{\"a\":1}").ok());
  EXPECT_THAT(receiver.bodies(), testing::ElementsAre("{\"a\":1}"));
  EXPECT_THAT(receiver.types(), testing::ElementsAre("application/json"));
}

TEST(Webhook, TakesAnyAnswerOf200To299AndReadsNoneOfItsBody) {
  Receiver receiver;
  const auto webhook = Webhook::To(receiver.Url("/hook"));
  receiver.Answer(202, 100'000'000);
  EXPECT_TRUE((*webhook)->Post("{}").ok());
  for (const int status : {302, 404, 500}) {
    receiver.Answer(status, 0);
    const absl::Status told = (*webhook)->Post("{}");
    EXPECT_TRUE(absl::IsFailedPrecondition(told)) << told;
    EXPECT_THAT(std::string(told.message()), HasSubstr(absl::StrCat("status ", status)));
  }
  EXPECT_FALSE(receiver.followed());
}

TEST(Webhook, SaysThatNobodyAnswersWhereNobodyListens) {
  std::string url;
  {
    Receiver receiver;
    url = receiver.Url("/hook");
  }
  const absl::Status told = (*Webhook::To(url))->Post("{}");
  EXPECT_TRUE(absl::IsUnavailable(told)) << told;
}

TEST(Webhook, AnInterruptEndsTheRequestThatHangs) {
  Receiver receiver;
  const auto webhook = Webhook::To(receiver.Url("/hangs"));
  std::thread other([&] {
    receiver.WaitUntilItHangs();
    (*webhook)->Interrupt();
  });
  EXPECT_FALSE((*webhook)->Post("{}").ok());
  other.join();
  EXPECT_TRUE(absl::IsCancelled((*webhook)->Post("{}")));
}

TEST(Webhook, RefusesAddressesThatAreNoneWithASentence) {
  for (const char* url : {"", "https://a/b", "http://", "http:///x", "http://a:0/", "http://a:x/", "http://u:p@a/",
                          "http://a/b c", "ftp://a", "http://a/\n"}) {
    const auto webhook = Webhook::To(url);
    EXPECT_TRUE(absl::IsInvalidArgument(webhook.status())) << url << ": " << webhook.status();
  }
  for (const char* url : {"http://a", "http://a:80", "http://a.b/c?d=e", "http://[::1]:8080/x", "http://[::1]"}) {
    EXPECT_TRUE(Webhook::To(url).ok()) << url;
  }
}

}  // namespace
}  // namespace storyfarm::coordinator
