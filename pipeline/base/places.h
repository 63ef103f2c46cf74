// Where the programs keep their data and find each other when nobody tells them. One place for all of them: storyctl
// and storyfarm-worker reach the coordinator of the same user with no flags because they ask here.
#ifndef STORYFARM_PIPELINE_BASE_PLACES_H_
#define STORYFARM_PIPELINE_BASE_PLACES_H_

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace storyfarm::base {

// Longest path that a unix socket may have everywhere: sun_path holds 104 bytes on macOS (108 on Linux), the last is 0.
inline constexpr size_t kMaxSocketPathBytes = 103;

// The value of an environment variable; empty where it is not set.
using Variables = std::function<std::string(const std::string& name)>;
// This process's own. Reads them at each call.
Variables ProcessVariables();

// The folder of a program's data; `program` is "coordinator" or "worker". Linux: $XDG_DATA_HOME/storyfarm/PROGRAM, with
// ~/.local/share where that is not set (XDG Base Directory Specification; a relative XDG_DATA_HOME is ignored, as it
// says). macOS: ~/Library/Application Support/storyfarm/PROGRAM. FAILED_PRECONDITION where there is no HOME.
absl::StatusOr<std::string> DefaultDataFolder(const Variables& variables, std::string_view program);

// The socket of the coordinator whose data lies in `data_folder` (absolute): "coordinator.sock" in that folder, or,
// where this is longer than kMaxSocketPathBytes, /tmp/storyfarm-UID/DIGEST.sock with the first 12 hex digits of the
// SHA-256 of the folder's path. Whoever listens there makes sure that the folder is the user's own and closed to
// others.
std::string CoordinatorSocket(const std::string& data_folder);

// The socket on which its web page serves visitors from other machines who are "viewer", "submitter" or "admin":
// "web-ROLE.sock", as above.
std::string VisitorSocket(const std::string& data_folder, const std::string& role);

// "unix:" and the socket of this user's coordinator in its default place: what gRPC takes as a target.
absl::StatusOr<std::string> DefaultCoordinatorTarget(const Variables& variables);

// OK for what a person may name the farm by: "unix:" and a path, or HOST:PORT with a port from 1 to 65535; where one
// coordinator leads and others stand by, several of them with commas between, all unix or all of one family of IP
// addresses. INVALID_ARGUMENT says what is wrong; nobody should wait for an address at which nothing can ever answer.
// "tls:" before it says that it is reached over mutual TLS, as every address of another machine is.
absl::Status CheckCoordinatorTarget(const std::string& target);

// An IP address of this machine and a port to listen on, as gRPC takes it: "0.0.0.0:7850", "[::]:7850", "192.168.1.5:0".
// INVALID_ARGUMENT: it is none.
absl::StatusOr<std::string> NetworkAddress(const std::string& listen);

// An IP address (without brackets) or "localhost" that only this machine can reach.
bool IsLoopbackHost(const std::string& host);
// Whether a target as above is reached over mutual TLS: it says so, or it is neither a socket nor loopback.
bool NeedsCertificate(const std::string& target);
// A target without its "tls:".
std::string AddressesOf(const std::string& target);

// The name under which gRPC's health service says whether a coordinator leads (SERVING) or stands by.
inline constexpr char kLeaderHealth[] = "farm.v1.Leader";

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_PLACES_H_
