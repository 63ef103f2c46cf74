// gRPC at the coordinator's addresses: its services while it leads, one refusal for every call while it stands by.
#ifndef STORYFARM_COORDINATOR_RPC_LISTENING_H_
#define STORYFARM_COORDINATOR_RPC_LISTENING_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/rpc/guard.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace storyfarm::coordinator {

struct ListenOptions {
  std::string socket_path;  // unix socket; empty: none
  std::string listen;       // "127.0.0.1:PORT", "[::1]:PORT" or "localhost:PORT", PORT 0: any free one; empty: none
  // Other machines, over mutual TLS: IP address and port, PORT 0: any free one; empty: none.
  std::string network;
  std::string trust_folder;      // of `network`: membership.h
  std::shared_ptr<Guard> guard;  // decides on the calls of `network`; null for one that refuses all calls
  size_t receive_bytes = size_t{4} << 20;
  size_t send_bytes = size_t{4} << 20;
};

class Listening {
 public:
  // The services of one that leads; they outlive this. INVALID_ARGUMENT: an address that is not loopback.
  // ALREADY_EXISTS: the port or socket is in use. FAILED_PRECONDITION: the socket's folder is open to others.
  static absl::StatusOr<std::unique_ptr<Listening>> Serve(const ListenOptions& options,
                                                          const std::vector<grpc::Service*>& services);
  // Answers every call UNAVAILABLE with what was told to Say last, and those who ask who leads that it is not this one.
  // Ends connections every few seconds, so that whoever shares an address with others finds the one that leads.
  static absl::StatusOr<std::unique_ptr<Listening>> StandBy(const ListenOptions& options);
  // One service for whoever comes, over TLS that asks for no certificate.
  static absl::StatusOr<std::unique_ptr<Listening>> ServeAnybody(const std::string& address,
                                                                 const std::string& trust_folder,
                                                                 grpc::Service* service);
  ~Listening();

  int port() const { return port_; }  // of `listen`, 0 where it is empty
  int network_port() const { return network_port_; }  // of `network`, or ServeAnybody's
  void Say(const std::string& sentence);
  // Calls get so long to end by themselves. The addresses are free once this is destroyed.
  void Stop(std::chrono::milliseconds grace);

 private:
  class Refusal;
  Listening();
  static absl::StatusOr<std::unique_ptr<Listening>> Open(const ListenOptions& options,
                                                         const std::vector<grpc::Service*>& services);

  std::unique_ptr<Refusal> refusal_;  // null: leads
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  int network_port_ = 0;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_LISTENING_H_
