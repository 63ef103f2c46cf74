// A browser that a link of `storyctl web` logged in, as far as a test needs one.
#ifndef STORYFARM_TESTS_E2E_VISITOR_H_
#define STORYFARM_TESTS_E2E_VISITOR_H_

#include <gtest/gtest.h>
#include <httplib.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace storyfarm::e2e {

class Visitor {
 public:
  // `origin`: by which the page is reached; empty: the link's own.
  explicit Visitor(const std::string& link, const std::string& origin = "") {
    const size_t path = link.find("/login#");
    origin_ = origin.empty() ? link.substr(0, path) : origin;
    httplib::Client client(origin_);
    const auto answer = client.Post("/api/login", {{"Origin", origin_}},
                                    nlohmann::json{{"code", link.substr(path + 7)}}.dump(), "application/json");
    EXPECT_TRUE(answer && answer->status == 200) << link << (answer ? answer->body : ": no answer");
    if (!answer) return;
    const std::string cookie = answer->get_header_value("Set-Cookie");
    headers_ = {{"Origin", origin_}, {"Cookie", cookie.substr(0, cookie.find(';'))}};
  }
  const std::string& origin() const { return origin_; }
  const httplib::Headers& headers() const { return headers_; }

  // The answer's status and body; 0: none came.
  std::pair<int, std::string> Get(const std::string& path) { return Get(path, headers_); }
  std::pair<int, std::string> Get(const std::string& path, const httplib::Headers& headers) {
    httplib::Client client(origin_);
    return Take(client.Get(path, headers));
  }
  std::pair<int, std::string> Post(const std::string& path) { return Post(path, headers_); }
  std::pair<int, std::string> Post(const std::string& path, const httplib::Headers& headers) {
    httplib::Client client(origin_);
    return Take(client.Post(path, headers, "{}", "application/json"));
  }
  // The job as its event stream tells it, until `enough`, or the stream ends; tasks as they were told last.
  nlohmann::json Follow(const std::string& job, const std::function<bool(const nlohmann::json&)>& enough) {
    nlohmann::json last;
    std::string text;
    httplib::Client client(origin_);
    client.set_read_timeout(60);
    client.Get("/api/events?job=" + job, headers_, [&](const char* data, size_t size) {
      text.append(data, size);
      for (size_t end; (end = text.find("\n\n")) != std::string::npos; text.erase(0, end + 2)) {
        const std::string head = "event: job\ndata: ";
        if (text.compare(0, head.size(), head) != 0) continue;
        last = nlohmann::json::parse(text.substr(head.size(), end - head.size()));
      }
      return last.is_null() || !enough(last);
    });
    return last;
  }

 private:
  static std::pair<int, std::string> Take(const httplib::Result& answer) {
    return answer ? std::pair(answer->status, answer->body) : std::pair(0, std::string());
  }

  std::string origin_;
  httplib::Headers headers_;
};

}  // namespace storyfarm::e2e

#endif  // STORYFARM_TESTS_E2E_VISITOR_H_
