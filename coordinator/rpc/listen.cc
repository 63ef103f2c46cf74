#include "coordinator/rpc/listen.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/env.h"
#include "pipeline/base/places.h"
#include "pipeline/base/unique_fd.h"

namespace storyfarm::coordinator {
namespace {

// A code carries them, and people copy it: a machine with more networks names those that matter with --advertise.
constexpr size_t kMostHosts = 4;

struct HostAndPort {
  std::string host;  // without brackets
  uint16_t port = 0;
};

absl::StatusOr<HostAndPort> Split(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(listen.substr(colon + 1), &port) || port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", listen, "\" is no address to listen on: write 127.0.0.1:PORT, with PORT 0 for any free one."));
  }
  std::string host = listen.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return HostAndPort{host, static_cast<uint16_t>(port)};
}

}  // namespace

absl::StatusOr<std::string> LoopbackAddress(const std::string& listen) {
  absl::StatusOr<HostAndPort> parts = Split(listen);
  if (!parts.ok()) return parts.status();
  if (parts->host == "localhost") parts->host = "127.0.0.1";
  if (!base::IsLoopbackHost(parts->host)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "The coordinator listens on this machine alone, and ", listen,
        " can be reached from others: whoever reaches it could use the farm. Listen on 127.0.0.1:PORT, and let other "
        "machines in with --network ADDRESS, where they need a certificate."));
  }
  const bool v6 = parts->host.find(':') != std::string::npos;
  return v6 ? absl::StrCat("[", parts->host, "]:", parts->port) : absl::StrCat(parts->host, ":", parts->port);
}

std::string WithPort(const std::string& address, int port) {
  return absl::StrCat(address.substr(0, address.rfind(':') + 1), port);
}

std::vector<std::string> ReachableHosts(const std::string& address) {
  const std::string host = address.substr(0, address.rfind(':'));
  if (host != "0.0.0.0" && host != "[::]") return {host};
  std::vector<std::string> hosts;
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) return {"127.0.0.1"};
  for (const ifaddrs* each = first; each != nullptr && hosts.size() < kMostHosts; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || (each->ifa_flags & IFF_UP) == 0 || (each->ifa_flags & IFF_LOOPBACK) != 0) continue;
    char text[INET6_ADDRSTRLEN] = {};
    if (each->ifa_addr->sa_family == AF_INET) {
      inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(each->ifa_addr)->sin_addr, text, sizeof(text));
      hosts.emplace_back(text);
    } else if (each->ifa_addr->sa_family == AF_INET6 && host == "[::]") {
      const in6_addr& v6 = reinterpret_cast<const sockaddr_in6*>(each->ifa_addr)->sin6_addr;
      if (IN6_IS_ADDR_LINKLOCAL(&v6)) continue;  // means nothing without the name of an interface of the other machine
      inet_ntop(AF_INET6, &v6, text, sizeof(text));
      hosts.push_back(absl::StrCat("[", text, "]"));
    }
  }
  freeifaddrs(first);
  if (hosts.empty()) hosts.emplace_back("127.0.0.1");
  return hosts;
}

absl::Status CheckPortIsFree(const std::string& address) {
  const absl::StatusOr<HostAndPort> parts = Split(address);
  if (!parts.ok()) return parts.status();
  if (parts->port == 0) return absl::OkStatus();
  sockaddr_storage storage{};
  socklen_t size = 0;
  if (parts->host.find(':') == std::string::npos) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(parts->port);
    inet_pton(AF_INET, parts->host.c_str(), &v4->sin_addr);
    size = sizeof(*v4);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(parts->port);
    inet_pton(AF_INET6, parts->host.c_str(), &v6->sin6_addr);
    size = sizeof(*v6);
  }
  const base::UniqueFd fd(socket(storage.ss_family, SOCK_STREAM, 0));
  if (!fd.valid()) return base::ErrorFromErrno(errno, "open a socket for", address);
  const int on = 1;  // as gRPC does: connections that linger from before don't count
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), size) == 0) return absl::OkStatus();
  if (errno == EADDRINUSE) {
    return absl::AlreadyExistsError(absl::StrCat("The address ", address,
                                                 " is taken by another program. Stop that, or listen on another port "
                                                 "(--listen ",
                                                 parts->host, ":0 takes any free one)."));
  }
  return absl::Status(errno == EACCES ? absl::StatusCode::kPermissionDenied : absl::StatusCode::kFailedPrecondition,
                      absl::StrCat("Can't listen on ", address, ": ", std::strerror(errno), "."));
}

absl::Status PrepareSocket(const std::string& path) {
  if (path.size() > base::kMaxSocketPathBytes) {
    return absl::InvalidArgumentError(absl::StrCat("The path of the socket has ", path.size(),
                                                   " bytes, and sockets may have ", base::kMaxSocketPathBytes, ": ",
                                                   path));
  }
  const std::string folder = base::FolderOf(path);
  if (absl::Status status = base::Env::Real().CreateFolders(folder); !status.ok()) return status;
  struct stat info {};
  if (lstat(folder.c_str(), &info) != 0) return base::ErrorFromErrno(errno, "look at", folder);
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("The folder ", folder,
                     " must belong to you and be closed to others, as whoever may open the socket in "
                     "it may use the farm. Run: chmod 700 ",
                     folder));
  }
  if (lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? absl::OkStatus() : base::ErrorFromErrno(errno, "look at", path);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is in the way of the coordinator's socket. Move it away."));
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.sun_path);
  const base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM, 0));
  if (!fd.valid()) return base::ErrorFromErrno(errno, "open a socket for", path);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return absl::AlreadyExistsError(absl::StrCat("Another coordinator listens on ", path, ". Stop it first."));
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return base::ErrorFromErrno(errno, "remove", path);
  return absl::OkStatus();
}

}  // namespace storyfarm::coordinator
