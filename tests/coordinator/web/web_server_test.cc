// The server as a browser, and as a page of another site, meets it.
#include "coordinator/web/web_server.h"

#include <httplib.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "coordinator/web/api.h"
#include "coordinator/web/farm_follower.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/base/digest.h"
#include "tests/coordinator/web/exposition.h"
#include "tests/coordinator/web/fake_door.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::coordinator {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr char kPng[] = "\x89PNG\r\n\x1a\n";

class WebServerTest : public testing::Test {
 protected:
  WebServerTest()
      : log_(
            base::LogFormat::kText, [this](std::string_view line) { AddToLog(line); }, [] { return uint64_t{0}; }) {}

  absl::Status Start() {
    WebOptions options;
    options.address = "127.0.0.1:0";
    options.folder = folder_.File("web");
    options.software_version = "1.2";
    auto server = WebServer::Start(options, {&base::Env::Real(), &log_, &door_});
    if (!server.ok()) return server.status();
    server_ = *std::move(server);
    return absl::OkStatus();
  }
  void MustStart() {
    const absl::Status status = Start();
    ASSERT_TRUE(status.ok()) << status;
  }
  httplib::Client Browser() {
    httplib::Client client("127.0.0.1", server_->port());
    client.set_read_timeout(20);
    return client;
  }
  std::string Origin() const { return absl::StrCat("http://127.0.0.1:", server_->port()); }
  std::string CodeFor(farm::v1::Role role) {
    farm::v1::OpenWebRequest request;
    request.set_role(role);
    const auto link = server_->OpenLink(request);
    EXPECT_TRUE(link.ok()) << link.status();
    return link->url().substr(link->url().find('#') + 1);
  }
  httplib::Result LogIn(const std::string& code) {
    return Browser().Post("/api/login", {{"Origin", Origin()}}, json{{"code", code}}.dump(), "application/json");
  }
  // The headers of a request of a page that is logged in.
  httplib::Headers As(farm::v1::Role role) {
    const auto answer = LogIn(CodeFor(role));
    const std::string cookie = answer->get_header_value("Set-Cookie");
    return {{"Origin", Origin()}, {"Cookie", cookie.substr(0, cookie.find(';'))}};
  }
  void AddToLog(std::string_view line) {
    const std::lock_guard<std::mutex> lock(mutex_);
    logged_ += std::string(line) + "\n";
  }
  std::string Logged() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return logged_;
  }

  testing_support::TempFolder folder_;
  std::mutex mutex_;
  std::string logged_;
  base::Log log_;
  FakeDoor door_;
  std::unique_ptr<WebServer> server_;
};

// The events of one page, read on a thread of its own.
class Events {
 public:
  Events(httplib::Client client, const std::string& path, const httplib::Headers& headers)
      : client_(std::move(client)), thread_([this, path, headers] {
          client_.Get(path, headers, [this](const char* data, size_t size) {
            const std::lock_guard<std::mutex> lock(mutex_);
            Take(std::string(data, size));
            changed_.notify_all();
            return !stopped_;
          });
          const std::lock_guard<std::mutex> lock(mutex_);
          ended_ = true;
          changed_.notify_all();
        }) {}
  ~Events() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopped_ = true;
    }
    client_.stop();
    thread_.join();
  }
  // The data of the next event of this name; null where the stream ended before.
  json Next(const std::string& name) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return ended_ || !events_[name].empty(); });
    if (events_[name].empty()) return nullptr;
    json data = std::move(events_[name].front());
    events_[name].pop_front();
    return data;
  }
  void WaitForEnd() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return ended_; });
  }

 private:
  void Take(const std::string& piece) {
    text_ += piece;
    for (size_t end; (end = text_.find("\n\n")) != std::string::npos; text_.erase(0, end + 2)) {
      const std::vector<std::string> lines = absl::StrSplit(text_.substr(0, end), '\n');
      if (lines.size() != 2 || !absl::StartsWith(lines[0], "event: ")) continue;  // a comment, or how soon to come back
      events_[lines[0].substr(7)].push_back(json::parse(lines[1].substr(6)));
    }
  }

  httplib::Client client_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string text_;
  std::map<std::string, std::deque<json>> events_;
  bool ended_ = false;
  bool stopped_ = false;
  std::thread thread_;
};

farm::v1::JobStatus JobOf(const std::string& id, std::vector<farm::v1::TaskState> frames) {
  farm::v1::JobStatus job;
  job.set_job_id(id);
  job.set_title("Two Friends");
  job.set_state(farm::v1::JOB_RUNNING);
  for (size_t i = 0; i < frames.size(); ++i) {
    farm::v1::TaskStatus& task = *job.add_tasks();
    task.mutable_task()->set_job_id(id);
    task.mutable_task()->set_kind(farm::v1::TASK_FRAME);
    task.mutable_task()->set_number(static_cast<uint32_t>(i));
    task.set_state(frames[i]);
  }
  return job;
}

std::string PathOf(const Route& route) { return absl::StrReplaceAll(route.pattern, {{"{}", "x"}}); }

httplib::Result Send(httplib::Client client, const Route& route, const httplib::Headers& headers) {
  if (std::string(route.method) == "POST") return client.Post(PathOf(route), headers, "{}", "application/json");
  return client.Get(PathOf(route), headers);
}

TEST_F(WebServerTest, NothingOfTheFarmIsToldWithoutASession) {
  MustStart();
  for (const Route& route : Routes()) {
    const auto answer = Send(Browser(), route, {{"Origin", Origin()}});
    ASSERT_TRUE(answer) << route.pattern;
    if (route.need == Need::kNothing) continue;
    EXPECT_EQ(answer->status, 401) << route.method << " " << route.pattern;
    EXPECT_THAT(json::parse(answer->body)["error"].get<std::string>(), Not(testing::IsEmpty())) << route.pattern;
  }
  EXPECT_THAT(door_.done(), testing::IsEmpty());
  // Nor whether there is anything.
  EXPECT_EQ(Browser().Get("/api/else")->status, 401);
  EXPECT_THAT(Browser().Get("/api/else")->body, HasSubstr("storyctl web"));
}

TEST_F(WebServerTest, WhatNeedsNoSessionTellsNothingOfTheFarm) {
  door_.jobs.add_jobs()->set_title("A Secret Story");
  MustStart();
  for (const Route& route : Routes()) {
    if (route.need != Need::kNothing) continue;
    EXPECT_THAT(Send(Browser(), route, {{"Origin", Origin()}})->body, Not(HasSubstr("Secret"))) << route.pattern;
  }
}

TEST_F(WebServerTest, ARoleMayDoWhatTheTableSaysAndNoMore) {
  MustStart();
  const httplib::Headers viewer = As(farm::v1::ROLE_VIEWER);
  const httplib::Headers submitter = As(farm::v1::ROLE_SUBMITTER);
  for (const Route& route : Routes()) {
    if (std::string(route.method) == "GET" || route.need == Need::kNothing || route.need == Need::kViewer) continue;
    const auto refused = Send(Browser(), route, viewer);
    EXPECT_EQ(refused->status, 403) << route.pattern;
    EXPECT_THAT(refused->body, HasSubstr("storyctl web --role")) << route.pattern;
    EXPECT_EQ(Send(Browser(), route, submitter)->status == 403, route.need == Need::kAdmin) << route.pattern;
  }
  for (const std::string& done : door_.done()) EXPECT_FALSE(absl::StartsWith(done, "drain")) << done;
}

TEST_F(WebServerTest, EveryPostOfAPageNeedsTheOwnOrigin) {
  MustStart();
  httplib::Headers headers = As(farm::v1::ROLE_ADMIN);
  headers.erase("Origin");
  for (const Route& route : Routes()) {
    if (std::string(route.method) != "POST") continue;
    EXPECT_EQ(Send(Browser(), route, headers)->status, 403) << route.pattern;
    httplib::Headers foreign = headers;
    foreign.emplace("Origin", "http://127.0.0.1:1");
    EXPECT_EQ(Send(Browser(), route, foreign)->status, 403) << route.pattern;
  }
  EXPECT_THAT(door_.done(), testing::IsEmpty());
}

TEST_F(WebServerTest, AForeignHostGetsNothing) {
  MustStart();
  httplib::Headers headers = As(farm::v1::ROLE_ADMIN);
  headers.emplace("Host", "evil.example");
  for (const Route& route : Routes()) EXPECT_EQ(Send(Browser(), route, headers)->status, 403) << route.pattern;
}

TEST_F(WebServerTest, ALinkLogsOneBrowserInOnce) {
  MustStart();
  const std::string code = CodeFor(farm::v1::ROLE_SUBMITTER);
  const auto page = Browser().Get("/");
  EXPECT_EQ(page->status, 401);
  EXPECT_THAT(page->body, HasSubstr("storyctl web"));
  EXPECT_EQ(page->get_header_value("Content-Type"), "text/html; charset=utf-8");

  const auto login = LogIn(code);
  ASSERT_EQ(login->status, 200) << login->body;
  const std::string cookie = login->get_header_value("Set-Cookie");
  EXPECT_THAT(cookie, testing::StartsWith(absl::StrCat("storyfarm-", server_->port(), "=")));
  EXPECT_THAT(cookie, testing::AllOf(HasSubstr("HttpOnly"), HasSubstr("SameSite=Strict"), HasSubstr("Path=/")));
  const httplib::Headers headers = {{"Cookie", cookie.substr(0, cookie.find(';'))}};
  EXPECT_EQ(json::parse(Browser().Get("/api/me", headers)->body)["role"], "submitter");
  EXPECT_THAT(Browser().Get("/", headers)->body, HasSubstr("/page/app.js"));

  const auto again = LogIn(code);
  EXPECT_EQ(again->status, 403);
  EXPECT_THAT(again->body, HasSubstr("opened before"));
  EXPECT_EQ(LogIn("0123456789abcdef")->status, 403);
  for (const char* body : {"", "[]", "{}", "{\"code\": 5}", "{\"code\":"}) {
    EXPECT_EQ(Browser().Post("/api/login", {{"Origin", Origin()}}, body, "application/json")->status, 400) << body;
  }
  EXPECT_THAT(Logged(), Not(HasSubstr(code))) << "a secret is in the log";

  httplib::Headers leave = headers;
  leave.emplace("Origin", Origin());
  EXPECT_EQ(Browser().Post("/api/logout", leave, "{}", "application/json")->status, 200);
  EXPECT_EQ(Browser().Get("/api/me", headers)->status, 401);
}

TEST_F(WebServerTest, ASessionSurvivesARestartOnTheSamePort) {
  MustStart();
  const httplib::Headers headers = As(farm::v1::ROLE_VIEWER);
  const int port = server_->port();
  server_.reset();
  WebOptions options;
  options.address = absl::StrCat("127.0.0.1:", port);
  options.folder = folder_.File("web");
  auto server = WebServer::Start(options, {&base::Env::Real(), &log_, &door_});
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  EXPECT_EQ(Browser().Get("/api/me", headers)->status, 200);
}

TEST_F(WebServerTest, EveryFileOfThePageIsThereAndNeedsNothingFromOutside) {
  MustStart();
  const httplib::Headers headers = As(farm::v1::ROLE_VIEWER);
  const auto page = Browser().Get("/", headers);
  EXPECT_THAT(page->get_header_value("Content-Security-Policy"), HasSubstr("default-src 'none'"));
  for (const std::string name : {"app.js", "connection.js", "format.js", "icon.svg", "job.js", "jobs.js", "login.js", "machines.js",
                                 "memory_chart.js", "panel.js", "store.js", "style.css", "view.js"}) {
    const auto file = Browser().Get("/page/" + name);
    EXPECT_EQ(file->status, 200) << name;
    EXPECT_EQ(absl::StrReplaceAll(file->body, {{"http://www.w3.org/2000/svg", ""}}).find("http"), std::string::npos) << name;
    EXPECT_THAT(file->get_header_value("Content-Type"),
                testing::AnyOf(HasSubstr("javascript"), HasSubstr("css"), HasSubstr("svg"))) << name;
  }
  EXPECT_EQ(Browser().Get("/page/..%2f..%2fetc%2fpasswd", headers)->status, 404);
  EXPECT_EQ(Browser().Get("/page/none.js")->status, 404);
}

TEST_F(WebServerTest, TellsAPageWhatIsThereAndThenWhatChanged) {
  door_.nodes.add_nodes()->set_node_id("n1");
  door_.nodes.mutable_nodes(0)->set_name("attic");
  *door_.jobs.add_jobs() = JobOf("j-1", {});
  MustStart();
  door_.Tell(JobOf("j-1", {farm::v1::TASK_READY, farm::v1::TASK_READY}));
  Events events(Browser(), "/api/events?job=j-1", As(farm::v1::ROLE_VIEWER));
  const json first = events.Next("job");
  EXPECT_EQ(first["title"], "Two Friends");
  EXPECT_EQ(first["tasks"].size(), 2u);
  const json nodes = events.Next("nodes");
  EXPECT_EQ(nodes["order"], json({"n1"}));
  EXPECT_EQ(nodes["changed"][0]["name"], "attic");
  EXPECT_EQ(events.Next("jobs")["changed"][0]["job_id"], "j-1");

  door_.Tell(JobOf("j-1", {farm::v1::TASK_READY, farm::v1::TASK_GRANTED}));
  const json second = events.Next("job");
  ASSERT_EQ(second["tasks"].size(), 1u) << second;
  EXPECT_EQ(second["tasks"][0]["task"]["number"], 1);
  EXPECT_EQ(second["tasks"][0]["state"], "TASK_GRANTED");
}

TEST_F(WebServerTest, SaysWhyTheFarmDoesNotAnswer) {
  door_.trouble = absl::UnavailableError("This coordinator stands by: another one leads the farm.");
  MustStart();
  const httplib::Headers headers = As(farm::v1::ROLE_VIEWER);
  Events events(Browser(), "/api/events", headers);
  for (std::string trouble; trouble.empty();) trouble = events.Next("farm")["trouble"];
  const auto answer = Browser().Get("/api/jobs", headers);
  EXPECT_EQ(answer->status, 503);
  EXPECT_THAT(answer->body, HasSubstr("stands by"));
}

TEST_F(WebServerTest, AStreamEndsWithItsSessionAndWithTheServer) {
  MustStart();
  const httplib::Headers ended = As(farm::v1::ROLE_VIEWER);
  Events logged_out(Browser(), "/api/events", ended);
  logged_out.Next("nodes");
  EXPECT_EQ(Browser().Post("/api/logout", ended, "{}", "application/json")->status, 200);
  logged_out.WaitForEnd();
  Events open(Browser(), "/api/events?job=j-1", As(farm::v1::ROLE_VIEWER));
  open.Next("nodes");
  server_.reset();
  open.WaitForEnd();
}

TEST_F(WebServerTest, DoesOnTheFarmWhatAButtonSays) {
  MustStart();
  const httplib::Headers headers = As(farm::v1::ROLE_ADMIN);
  const auto press = [&](const std::string& path, const std::string& body = "{}") {
    return Browser().Post(path, headers, body, "application/json")->status;
  };
  EXPECT_EQ(press("/api/jobs/j-1/pause"), 200);
  EXPECT_EQ(press("/api/jobs/j-1/resume"), 200);
  EXPECT_EQ(press("/api/jobs/j-1/priority", "{\"priority\": 80}"), 200);
  EXPECT_EQ(press("/api/jobs/j-1/cancel"), 200);
  EXPECT_EQ(press("/api/jobs/j-1/retry"), 200);
  EXPECT_EQ(press("/api/jobs/j-1/frame/3/retry"), 200);
  EXPECT_EQ(press("/api/jobs/j-1/nothing/3/retry"), 400);
  EXPECT_EQ(press("/api/jobs/j-1/remove"), 200);
  EXPECT_EQ(press("/api/nodes/n1/drain"), 200);
  EXPECT_EQ(press("/api/nodes/n1/drain", "{\"at_once\": true}"), 200);
  EXPECT_EQ(press("/api/nodes/n1/undrain"), 200);
  EXPECT_THAT(door_.done(), ElementsAre("change j-1 pause", "change j-1 resume", "change j-1 priority 80", "cancel j-1", "retry j-1",
                                        "retry j-1 j-1/frame/3", "remove j-1",
                                        "drain n1", "drain n1 now", "undrain n1"));
  EXPECT_THAT(Logged(), HasSubstr("job paused job=j-1"));
  for (const char* body : {"", "{}", "{\"priority\": -1}", "{\"priority\": \"high\"}", "{\"priority\": 1.5}"}) {
    EXPECT_EQ(press("/api/jobs/j-1/priority", body), 400) << body;
  }
  door_.trouble = absl::FailedPreconditionError("job j-1 has ended");
  const auto late = Browser().Post("/api/jobs/j-1/pause", headers, "{}", "application/json");
  EXPECT_EQ(late->status, 409);
  EXPECT_EQ(json::parse(late->body)["error"], "job j-1 has ended");
}

TEST_F(WebServerTest, TellsATasksHistory) {
  MustStart();
  const auto answer = Browser().Get("/api/jobs/j-1/frame/3/log", As(farm::v1::ROLE_VIEWER));
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(json::parse(answer->body)["lines"][0]["event"], "of j-1/frame/3");
}

TEST_F(WebServerTest, GivesPicturesAndBooksByDigestAndNothingElse) {
  const std::string picture = std::string(kPng) + "pixels";
  const base::Digest digest = base::Digest::Of(picture);
  door_.blobs[digest.Bytes()] = {picture, "and more"};
  const base::Digest weights = base::Digest::Of("weights");
  door_.blobs[weights.Bytes()] = {"weights"};
  MustStart();
  const httplib::Headers headers = As(farm::v1::ROLE_VIEWER);
  const auto answer = Browser().Get("/api/blobs/" + digest.Hex(), headers);
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(answer->body, picture + "and more");
  EXPECT_EQ(answer->get_header_value("Content-Type"), "image/png");
  EXPECT_THAT(answer->get_header_value("Cache-Control"), HasSubstr("immutable"));
  const auto saved = Browser().Get("/api/blobs/" + digest.Hex() + "?save=my%20%22book%22.png", headers);
  EXPECT_EQ(saved->get_header_value("Content-Disposition"), "attachment; filename=\"my__book_.png\"");
  EXPECT_EQ(Browser().Get("/api/blobs/" + weights.Hex(), headers)->status, 404);
  EXPECT_EQ(Browser().Get("/api/blobs/" + base::Digest::Of("none").Hex(), headers)->status, 404);
  EXPECT_EQ(Browser().Get("/api/blobs/12", headers)->status, 400);
}

TEST_F(WebServerTest, GivesFiguresToWhoeverHasTheTokenOrASession) {
  MustStart();
  const std::string token = *base::Env::Real().ReadFile(server_->metrics_token_file());
  EXPECT_EQ(Browser().Get("/metrics")->status, 401);
  EXPECT_EQ(Browser().Get("/metrics", {{"Authorization", "Bearer " + token.substr(1) + "0"}})->status, 401);
  const auto answer = Browser().Get("/metrics", {{"Authorization", "Bearer " + token}});
  ASSERT_EQ(answer->status, 200);
  EXPECT_EQ(Exposition::Parse(answer->body).Value("storyfarm_leads"), 1);
  EXPECT_EQ(Browser().Get("/metrics", As(farm::v1::ROLE_VIEWER))->status, 200);
}

TEST_F(WebServerTest, IsHealthyWhileItAnswersAndReadyWhileItLeads) {
  MustStart();
  EXPECT_EQ(Browser().Get("/healthz")->status, 200);
  EXPECT_EQ(Browser().Get("/readyz")->status, 200);
  door_.trouble = absl::UnavailableError("This coordinator stands by.");
  EXPECT_EQ(Browser().Get("/healthz")->status, 200);
  EXPECT_EQ(Browser().Get("/readyz")->status, 503);
}

TEST_F(WebServerTest, RefusesAPageWhereTooManyAreOpen) {
  MemoryHistory history;
  FarmFollower follower(&door_, &base::Env::Real(), &history);
  std::vector<std::unique_ptr<OpenPage>> pages;
  for (size_t i = 0; i < kOpenPages; ++i) pages.push_back(*follower.Open(""));
  EXPECT_EQ(follower.open_pages(), kOpenPages);
  EXPECT_TRUE(absl::IsResourceExhausted(follower.Open("").status()));
  pages.pop_back();
  EXPECT_TRUE(follower.Open("").ok());
}

TEST_F(WebServerTest, ATakenPortIsNamedUnlessAnyPortWillDo) {
  MustStart();
  WebOptions options;
  options.address = absl::StrCat("127.0.0.1:", server_->port());
  options.folder = folder_.File("other");
  const WebParts parts{&base::Env::Real(), &log_, &door_};
  const auto taken = WebServer::Start(options, parts);
  EXPECT_TRUE(absl::IsAlreadyExists(taken.status())) << taken.status();
  EXPECT_THAT(std::string(taken.status().message()), HasSubstr("--web"));
  options.or_any_port = true;
  const auto other = WebServer::Start(options, parts);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_NE((*other)->port(), server_->port());
}

TEST(MemoryHistoryTest, KeepsAnHourOfEachDeviceAndForgetsWhoLeft) {
  MemoryHistory history;
  farm::v1::ListNodesResponse nodes;
  auto& node = *nodes.add_nodes();
  node.set_node_id("n1");
  node.set_connected(true);
  auto& memory = *node.add_devices()->mutable_memory();
  for (size_t i = 0; i < kSamples + 10; ++i) {
    memory.set_farm_bytes(i << 20);
    const uint64_t at_ms = 1'000'000 + i * kSampleMs;
    history.Add(at_ms, nodes);
    history.Add(at_ms + kSampleMs / 2, nodes);  // too soon
  }
  const json told = json::parse(history.Json("n1"));
  ASSERT_EQ(told["devices"].size(), 1u);
  const json& samples = told["devices"][0]["samples"];
  ASSERT_EQ(samples.size(), kSamples);
  EXPECT_EQ(samples.back(), json({1'000 + (kSamples + 9) * kSampleMs / 1000, kSamples + 9, 0, 0, 0}));
  EXPECT_EQ(json::parse(history.Json("n2"))["devices"].size(), 0u);
  history.Add(100'000'000, farm::v1::ListNodesResponse());
  EXPECT_EQ(json::parse(history.Json("n1"))["devices"].size(), 0u);
}

}  // namespace
}  // namespace storyfarm::coordinator
