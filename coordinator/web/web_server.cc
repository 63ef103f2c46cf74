#include "coordinator/web/web_server.h"

#include <fcntl.h>
#include <httplib.h>
#include <sys/socket.h>

#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "coordinator/web/api.h"
#include "coordinator/web/elastic_pool.h"
#include "coordinator/web/farm_follower.h"
#include "coordinator/web/memory_history.h"
#include "coordinator/web/sessions.h"

namespace storyfarm::coordinator {
namespace {

// An event stream a page, and what pages ask besides: a browser has at most six connections to one server.
constexpr size_t kThreads = kOpenPages + 48;
// What a page sends is a few words.
constexpr size_t kRequestBytes = size_t{64} << 10;
// A browser on this machine is never slower; who says nothing for so long holds no thread.
constexpr time_t kReadSeconds = 10;
constexpr time_t kWriteSeconds = 30;
// What a unix socket has none of; 0 would ask for any.
constexpr int kAnyPort = 80;
// A connection serves a page full of pictures before it is made anew.
constexpr size_t kRequestsAConnection = 1'000;

// Another server of this machine must not be able to listen beside this one, as it could with SO_REUSEPORT.
void SetSocketOptions(socket_t socket) {
  const int yes = 1;
  setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  fcntl(socket, F_SETFD, FD_CLOEXEC);
}

// Made at the first start, kept afterwards: Prometheus has a copy.
absl::StatusOr<std::string> MetricsToken(base::Env& env, const std::string& file) {
  absl::StatusOr<std::string> token = env.ReadFile(file, 1024);
  if (absl::IsNotFound(token.status())) {
    token = absl::BytesToHexString(env.RandomBytes(kSecretBytes));
    if (absl::Status status = env.WriteFileDurably(file, *token); !status.ok()) return status;
  }
  if (token.ok() && token->size() != 2 * kSecretBytes) {
    return absl::DataLossError(
        absl::StrCat(file, " does not hold the token of /metrics. Delete it; another one is made at the next start."));
  }
  return token;
}

}  // namespace

struct WebServer::Parts {
  std::unique_ptr<Sessions> sessions;
  MemoryHistory history;
  std::unique_ptr<FarmFollower> follower;
  std::unique_ptr<Api> api;
  httplib::Server http;
  struct Visitors {
    httplib::Server http;
    std::thread thread;
  };
  std::vector<std::unique_ptr<Visitors>> visitors;
  int port = 0;
  std::string url;
  std::string metrics_token_file;
  std::thread thread;

  // `most`: what its visitors may do at most.
  void Serve(httplib::Server& server, farm::v1::Role most, std::thread& on);
};

void WebServer::Parts::Serve(httplib::Server& server, farm::v1::Role most, std::thread& on) {
  server.new_task_queue = [] { return new ElasticPool(kThreads); };
  server.set_payload_max_length(kRequestBytes);
  server.set_read_timeout(kReadSeconds);
  server.set_write_timeout(kWriteSeconds);
  server.set_keep_alive_max_count(kRequestsAConnection);
  const auto serve = [answers = api.get(), most](const httplib::Request& request, httplib::Response& response) {
    answers->Serve(request, response, most);
  };
  server.Get(".*", serve);
  server.Post(".*", serve);
  on = std::thread([&server] { server.listen_after_bind(); });
  while (!server.is_running()) std::this_thread::yield();  // a stop before that would be lost
}

WebServer::WebServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<WebServer>> WebServer::Start(const WebOptions& options, const WebParts& given) {
  if (absl::Status status = given.env->CreateFolders(options.folder); !status.ok()) return status;
  auto parts = std::make_unique<Parts>();
  auto sessions = Sessions::Open(given.env, base::JoinPath(options.folder, "sessions"));
  if (!sessions.ok()) return sessions.status();
  parts->sessions = *std::move(sessions);
  parts->metrics_token_file = base::JoinPath(options.folder, "metrics-token");
  absl::StatusOr<std::string> token = MetricsToken(*given.env, parts->metrics_token_file);
  if (!token.ok()) return token.status();

  const size_t colon = options.address.rfind(':');
  std::string host = options.address.substr(0, colon);
  if (host.front() == '[') host = host.substr(1, host.size() - 2);
  int port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(options.address.substr(colon + 1), &port)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", options.address, "\" is no address for the farm's page."));
  }
  httplib::Server& http = parts->http;
  http.set_socket_options(SetSocketOptions);
  bool bound = port > 0 && http.bind_to_port(host, port);
  if (port > 0 && !bound && !options.or_any_port) {
    return absl::AlreadyExistsError(absl::StrCat(
        "The farm's page can't be served on ", options.address,
        ": something else listens there. Choose another port with --web, or --web off for none."));
  }
  if (!bound) port = http.bind_to_any_port(host);
  if (port <= 0) {
    return absl::AlreadyExistsError(absl::StrCat("No port of ", host, " is free for the farm's page."));
  }
  parts->port = port;
  parts->url = absl::StrCat("http://", options.address.substr(0, colon), ":", port, "/");

  parts->follower = std::make_unique<FarmFollower>(given.door, given.env, &parts->history);
  Api::Parts api;
  api.door = given.door;
  api.sessions = parts->sessions.get();
  api.follower = parts->follower.get();
  api.history = &parts->history;
  api.env = given.env;
  api.log = given.log;
  api.software_version = options.software_version;
  api.metrics_token = *std::move(token);
  parts->api = std::make_unique<Api>(std::move(api));

  for (const auto& [role, path] : options.visitor_sockets) {
    Parts::Visitors& visitors = *parts->visitors.emplace_back(std::make_unique<Parts::Visitors>());
    visitors.http.set_socket_options(SetSocketOptions);
    visitors.http.set_address_family(AF_UNIX);
    if (visitors.http.bind_to_port(path, kAnyPort)) continue;
    return absl::AlreadyExistsError(absl::StrCat("The farm's page can't be served on the socket ", path, "."));
  }
  http.set_tcp_nodelay(true);
  Parts& serving = *parts;
  std::unique_ptr<WebServer> server(new WebServer(std::move(parts)));
  serving.Serve(http, farm::v1::ROLE_ADMIN, serving.thread);
  size_t next = 0;
  for (const auto& [role, path] : options.visitor_sockets) {
    Parts::Visitors& visitors = *serving.visitors[next++];
    serving.Serve(visitors.http, role, visitors.thread);
  }
  return server;
}

WebServer::~WebServer() {
  parts_->follower->Stop();  // event streams end by themselves then
  parts_->http.stop();
  parts_->thread.join();
  for (const auto& visitors : parts_->visitors) {
    visitors->http.stop();
    visitors->thread.join();
  }
}

int WebServer::port() const { return parts_->port; }
const std::string& WebServer::url() const { return parts_->url; }
const std::string& WebServer::metrics_token_file() const { return parts_->metrics_token_file; }

absl::StatusOr<farm::v1::OpenWebResponse> WebServer::OpenLink(const farm::v1::OpenWebRequest& request) {
  if (!farm::v1::Role_IsValid(request.role())) {
    return absl::InvalidArgumentError("The farm's page knows no such role: say viewer, submitter or admin.");
  }
  const bool unsaid = request.role() == farm::v1::ROLE_UNSPECIFIED;
  const absl::StatusOr<std::string> code = parts_->sessions->DrawCode(unsaid ? farm::v1::ROLE_ADMIN : request.role());
  if (!code.ok()) return code.status();
  farm::v1::OpenWebResponse link;
  // Behind the #: no server's log and no Referer has it, and what looks at links beforehand does not use it up.
  link.set_url(absl::StrCat(parts_->url, "login#", *code));
  link.set_valid_seconds(kCodeSeconds);
  link.set_role(unsaid ? farm::v1::ROLE_ADMIN : request.role());
  return link;
}

}  // namespace storyfarm::coordinator
