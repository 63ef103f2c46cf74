// Browsers on other machines at the coordinator's page: each WebTunnel call is one of their connections, carried to a
// socket on which the page serves visitors of the caller's role. Behind client_service.h.
//
//   browser ──TCP──> storyctl web ──WebTunnel, mutual TLS──> WebTunnels ──unix socket──> coordinator/web
//
// Each way holds one piece at a time: nothing more is read from one side before the other took what came. A member who
// is removed has their calls cut off (guard.h), and with them these connections.
#ifndef STORYFARM_COORDINATOR_RPC_WEB_TUNNELS_H_
#define STORYFARM_COORDINATOR_RPC_WEB_TUNNELS_H_

#include <grpcpp/support/server_callback.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/client.pb.h"
#include "farm/v1/trust.pb.h"
#include "pipeline/base/unique_fd.h"
#include "pipeline/base/wake_pipe.h"

namespace storyfarm::coordinator {

// In all: somewhat more than the pages that may be open (coordinator/web), each of which takes a connection for itself.
inline constexpr size_t kWebTunnels = 64;
// Of one member: a browser opens six, and somebody has two browsers with a page or two in each.
inline constexpr size_t kWebTunnelsAMember = 24;
inline constexpr size_t kWebTunnelBytes = size_t{64} << 10;  // of one piece

// Where the page of the coordinator with this data folder serves such visitors (pipeline/base/places.h).
std::string VisitorSocket(const std::string& data_folder, farm::v1::Role role);

class WebTunnels {
 public:
  // `socket_of`: the path of the socket on which the page serves visitors who may do what this role may.
  explicit WebTunnels(std::function<std::string(farm::v1::Role)> socket_of);
  // All calls have ended.
  ~WebTunnels();

  // The reactor of one call. `member`: whose it is. Any thread.
  grpc::ServerBidiReactor<farm::v1::WebBytes, farm::v1::WebBytes>* Open(const std::string& member, farm::v1::Role role);

  // The reactor of one that is not to be.
  grpc::ServerBidiReactor<farm::v1::WebBytes, farm::v1::WebBytes>* Refuse(const absl::Status& why);

  // Ends them all; later ones end at once. Any thread.
  void Stop(const absl::Status& why);

 private:
  class Tunnel;

  grpc::ServerBidiReactor<farm::v1::WebBytes, farm::v1::WebBytes>* Add(const std::string& member,
                                                                       absl::StatusOr<base::UniqueFd> socket);
  // A connection to the page, or why there is none. Holds mutex_.
  absl::StatusOr<base::UniqueFd> Connect(const std::string& member, farm::v1::Role role) const;
  void Main();
  // Does what is to be done and waits for more. False: it was told to leave, and no tunnel is left.
  bool Turn();

  const std::function<std::string(farm::v1::Role)> socket_of_;
  base::WakePipe wake_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Tunnel>> tunnels_;
  std::optional<absl::Status> stopped_;
  bool leaving_ = false;
  std::thread thread_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_WEB_TUNNELS_H_
