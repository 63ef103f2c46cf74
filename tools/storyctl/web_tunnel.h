// A port of this machine that leads to the page of a farm on another one: each connection to it is carried over the
// farm's mutual TLS (ClientService.WebTunnel), and nothing of it is looked at. The browser and the page speak as on the
// farm's own machine.
#ifndef STORYFARM_TOOLS_STORYCTL_WEB_TUNNEL_H_
#define STORYFARM_TOOLS_STORYCTL_WEB_TUNNEL_H_

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "farm/v1/client.grpc.pb.h"
#include "pipeline/base/unique_fd.h"
#include "pipeline/base/wake_pipe.h"

namespace storyfarm::storyctl {

// Two browsers' worth: each opens six. One more waits until another ends.
inline constexpr size_t kTunnelConnections = 16;

class WebTunnel {
 public:
  // Listens on 127.0.0.1:`port`; where that is taken, and `or_any_port`, on any free one. ALREADY_EXISTS: it is taken.
  // `client` outlives this.
  static absl::StatusOr<std::unique_ptr<WebTunnel>> Open(farm::v1::ClientService::StubInterface& client, int port,
                                                         bool or_any_port);
  // Ends all connections.
  ~WebTunnel();

  int port() const { return port_; }

  // Carries connections until the farm lets none through any more, and says why as gRPC said it. Meanwhile `on_trouble`
  // is told what went wrong with a connection that the browser will make again, from any thread.
  grpc::Status Run(const std::function<void(const grpc::Status&)>& on_trouble);

 private:
  struct Connection;

  WebTunnel(farm::v1::ClientService::StubInterface& client, base::UniqueFd listens, int port);
  grpc::Status Accept(const std::function<void(const grpc::Status&)>& on_trouble);
  void EndAll();
  void Carry(Connection& connection, const std::function<void(const grpc::Status&)>& on_trouble);
  // Joins those that are over; how many are left.
  size_t Reap();

  farm::v1::ClientService::StubInterface& client_;
  base::UniqueFd listens_;
  const int port_;
  base::WakePipe wake_;
  std::mutex mutex_;
  std::optional<grpc::Status> ended_;
  std::list<Connection> connections_;  // Run's thread adds and removes them
};

}  // namespace storyfarm::storyctl

#endif  // STORYFARM_TOOLS_STORYCTL_WEB_TUNNEL_H_
