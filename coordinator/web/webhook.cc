#include "coordinator/web/webhook.h"

#include <httplib.h>

#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {
namespace {

constexpr char kScheme[] = "http://";

absl::Status Bad(const std::string& url, const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("--webhook ", url, " makes no sense: ", what));
}

}  // namespace

class Webhook::Client {
 public:
  explicit Client(const std::string& origin) : http(origin) {}
  httplib::Client http;
};

Webhook::Webhook(std::string origin, std::string path) : origin_(std::move(origin)), path_(std::move(path)) {}

absl::StatusOr<std::unique_ptr<Webhook>> Webhook::To(const std::string& url) {
  if (!absl::StartsWith(url, kScheme)) {
    return Bad(url, "say http://HOST:PORT/PATH; https is not spoken, put a relay that does on this machine.");
  }
  const size_t begin = sizeof(kScheme) - 1;
  const size_t slash = url.find('/', begin);
  const std::string host = url.substr(begin, slash == std::string::npos ? slash : slash - begin);
  if (host.empty()) return Bad(url, "it names no host.");
  if (host.find('@') != std::string::npos) return Bad(url, "everybody on this machine would see a password in it.");
  for (const char c : url) {
    if (c <= ' ' || c == 0x7f || c == '#') return Bad(url, "it holds a character that no such address has.");
  }
  const size_t colon = host[0] == '[' ? host.find("]:") : host.find(':');
  if (colon != std::string::npos) {
    uint32_t port = 0;
    const std::string digits = host.substr(host.rfind(':') + 1);
    if (!absl::SimpleAtoi(digits, &port) || port < 1 || port > 65535) return Bad(url, "its port is none.");
  }
  return std::unique_ptr<Webhook>(
      new Webhook(absl::StrCat(kScheme, host), slash == std::string::npos ? "/" : url.substr(slash)));
}

absl::Status Webhook::Post(const std::string& body) {
  const auto client = std::make_shared<Client>(origin_);
  client->http.set_connection_timeout(std::chrono::milliseconds(kWebhookConnectMs));
  client->http.set_read_timeout(std::chrono::milliseconds(kWebhookAnswerMs));
  client->http.set_write_timeout(std::chrono::milliseconds(kWebhookAnswerMs));
  client->http.set_follow_location(false);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (interrupted_) return absl::CancelledError("the coordinator stops");
    running_ = client;
  }
  httplib::Request request;
  request.method = "POST";
  request.path = path_;
  request.headers.emplace("Content-Type", "application/json");
  request.body = body;
  // Ends the request at the first byte of the answer's body, which says nothing that its status does not.
  request.content_receiver = [](const char*, size_t, uint64_t, uint64_t) { return false; };
  httplib::Response answer;
  httplib::Error error = httplib::Error::Success;
  const bool whole = client->http.send(request, answer, error);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    running_.reset();
  }
  const bool answered = whole || (error == httplib::Error::Canceled && answer.status > 0);
  if (!answered) {
    return absl::UnavailableError(absl::StrCat(origin_, " does not answer: ", httplib::to_string(error)));
  }
  if (answer.status >= 200 && answer.status < 300) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(origin_, " answered with status ", answer.status));
}

void Webhook::Interrupt() {
  const std::lock_guard<std::mutex> lock(mutex_);
  interrupted_ = true;
  if (running_ != nullptr) running_->http.stop();
}

}  // namespace storyfarm::coordinator
