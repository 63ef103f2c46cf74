// Where the coordinator listens, checked before gRPC is asked: its own error for a taken port is no sentence, and it
// takes a taken unix socket away from whoever has it.
#ifndef STORYFARM_COORDINATOR_RPC_LISTEN_H_
#define STORYFARM_COORDINATOR_RPC_LISTEN_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace storyfarm::coordinator {

// "127.0.0.1:PORT", "[::1]:PORT" or "localhost:PORT" (IPv4) as an address for gRPC. INVALID_ARGUMENT: no address, or
// one that other machines can reach.
absl::StatusOr<std::string> LoopbackAddress(const std::string& listen);

// An address from base::NetworkAddress with another port.
std::string WithPort(const std::string& address, int port);
// Hosts under which other machines may reach an address from base::NetworkAddress: its own, or, for 0.0.0.0 and [::], those
// of all of this machine's network interfaces but loopback, and loopback where there is nothing else.
std::vector<std::string> ReachableHosts(const std::string& address);

// OK where the address from LoopbackAddress or base::NetworkAddress is free just now (port 0 always is). ALREADY_EXISTS: it is
// taken.
absl::Status CheckPortIsFree(const std::string& address);

// OK where nobody listens on a unix socket; a file that a dead process left is removed. ALREADY_EXISTS: someone does.
// INVALID_ARGUMENT: the path is too long for a socket. FAILED_PRECONDITION: something else lies there, or its folder is
// not this user's own and closed to others (it is created where it is missing).
absl::Status PrepareSocket(const std::string& path);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_LISTEN_H_
