// coordinator/web: what the coordinator has to do with HTTP. The farm's page for a browser, figures for Prometheus,
// health for whoever starts it; and the webhook (webhook.h). For the program (coordinator/rpc/main.cc).
//
//   browser ── GET /, files ────────────> page_files (built in)
//           ── POST /api/login ─────────> Sessions: a code of `storyctl web` becomes a cookie
//           ── GET /api/events ─────────> FarmFollower ─┐  one poll for all pages, one stream a job
//           ── GET, POST /api/... ──────> Api ──────────┼─> FarmDoor ─> the coordinator's own socket
//   Prometheus ── GET /metrics ─────────> MetricsText ──┘
//
// The page has no model of its own: what it shows are ClientService's messages as JSON, and its buttons are that
// service's calls. So a coordinator that stands by has a page, too, which says so.
//
// Browsers on other machines come through `storyctl web` there and one of the visitors' sockets (coordinator/rpc/
// web_tunnels.h): for them the socket caps what their session may do.
//
// Who may ask: request_guard.h decides whether a request comes from the farm's own page, sessions.h whether a person
// logged in, and one table in api.cc what each role may do. Read api.h next.
#ifndef STORYFARM_COORDINATOR_WEB_WEB_SERVER_H_
#define STORYFARM_COORDINATOR_WEB_WEB_SERVER_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/web/farm_door.h"
#include "farm/v1/client.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

struct WebOptions {
  std::string address;         // "127.0.0.1:PORT" or "[::1]:PORT"; PORT 0: any free one
  bool or_any_port = false;    // where that one is taken
  // Paths of unix sockets on which visitors from other machines are served, each as somebody who may do what the role
  // may at most. Nobody else can reach them, and nothing lies there.
  std::map<farm::v1::Role, std::string> visitor_sockets;
  std::string folder;          // for sessions and the token of /metrics; made where it is missing, closed to others
  std::string software_version;
};

// All of it outlives the server.
struct WebParts {
  base::Env* env = nullptr;
  base::Log* log = nullptr;
  FarmDoor* door = nullptr;
};

class WebServer {
 public:
  // ALREADY_EXISTS: the port is taken. Else as the folder's files say.
  static absl::StatusOr<std::unique_ptr<WebServer>> Start(const WebOptions& options, const WebParts& parts);
  // Ends all connections.
  ~WebServer();

  int port() const;
  // "http://127.0.0.1:7851/".
  const std::string& url() const;
  // The file with the token that /metrics asks for.
  const std::string& metrics_token_file() const;

  // A link that logs one browser in. Any thread. As Sessions::DrawCode; INVALID_ARGUMENT: no such role.
  absl::StatusOr<farm::v1::OpenWebResponse> OpenLink(const farm::v1::OpenWebRequest& request);

 private:
  struct Parts;
  explicit WebServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_WEB_WEB_SERVER_H_
