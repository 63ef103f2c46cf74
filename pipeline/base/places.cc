#include "pipeline/base/places.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"

namespace storyfarm::base {

Variables ProcessVariables() {
  return [](const std::string& name) {
    const char* value = std::getenv(name.c_str());
    return std::string(value == nullptr ? "" : value);
  };
}

absl::StatusOr<std::string> DefaultDataFolder(const Variables& variables, std::string_view program) {
  const std::string home = variables("HOME");
#ifdef __APPLE__
  if (!home.empty()) return JoinPath(JoinPath(home, "Library/Application Support/storyfarm"), program);
#else
  const std::string data_home = variables("XDG_DATA_HOME");
  if (!data_home.empty() && data_home.front() == '/') return JoinPath(JoinPath(data_home, "storyfarm"), program);
  if (!home.empty()) return JoinPath(JoinPath(home, ".local/share/storyfarm"), program);
#endif
  return absl::FailedPreconditionError(
      "There is no home folder to keep data in: HOME is not set. Set it, or name a folder with --data.");
}

namespace {

// Where sockets lie whose own folder has a path too long for them; without an ending.
std::string ShortSocketPath(const std::string& data_folder) {
  return absl::StrCat("/tmp/storyfarm-", static_cast<uint64_t>(getuid()), "/", Digest::Of(data_folder).ShortHex());
}

}  // namespace

std::string CoordinatorSocket(const std::string& data_folder) {
  std::string inside = JoinPath(data_folder, "coordinator.sock");
  return inside.size() <= kMaxSocketPathBytes ? inside : absl::StrCat(ShortSocketPath(data_folder), ".sock");
}

std::string VisitorSocket(const std::string& data_folder, const std::string& role) {
  std::string inside = JoinPath(data_folder, absl::StrCat("web-", role, ".sock"));
  return inside.size() <= kMaxSocketPathBytes ? inside
                                              : absl::StrCat(ShortSocketPath(data_folder), "-web-", role, ".sock");
}

absl::StatusOr<std::string> DefaultCoordinatorTarget(const Variables& variables) {
  absl::StatusOr<std::string> folder = DefaultDataFolder(variables, "coordinator");
  if (!folder.ok()) return folder.status();
  return absl::StrCat("unix:", CoordinatorSocket(*folder));
}

namespace {

constexpr char kTls[] = "tls:";

// Of HOST:PORT, without brackets.
std::string HostOf(const std::string& address) {
  std::string host = address.substr(0, address.rfind(':'));
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return host;
}

enum class AddressKind { kNone, kUnix, kName, kIpv4, kIpv6 };

AddressKind KindOf(const std::string& address) {
  constexpr std::string_view kUnix = "unix:";
  if (address.rfind(kUnix, 0) == 0) return address.size() > kUnix.size() ? AddressKind::kUnix : AddressKind::kNone;
  const size_t colon = address.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(address.substr(colon + 1), &port) || port == 0 ||
      port > 65535) {
    return AddressKind::kNone;
  }
  const std::string host = HostOf(address);
  unsigned char bytes[sizeof(in6_addr)];
  if (inet_pton(AF_INET, host.c_str(), bytes) == 1) return AddressKind::kIpv4;
  return inet_pton(AF_INET6, host.c_str(), bytes) == 1 ? AddressKind::kIpv6 : AddressKind::kName;
}

}  // namespace

absl::StatusOr<std::string> NetworkAddress(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  uint32_t port = 0;
  if (colon != std::string::npos && absl::SimpleAtoi(listen.substr(colon + 1), &port) && port <= 65535) {
    const std::string host = HostOf(listen);
    unsigned char bytes[sizeof(in6_addr)];
    if (inet_pton(AF_INET, host.c_str(), bytes) == 1) return absl::StrCat(host, ":", port);
    if (inet_pton(AF_INET6, host.c_str(), bytes) == 1) return absl::StrCat("[", host, "]:", port);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", listen,
                   "\" is no address to listen on: write an IP address of this machine and a port, such as 0.0.0.0:7850 "
                   "for all of them."));
}

bool IsLoopbackHost(const std::string& host) {
  if (host == "localhost") return true;
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

std::string AddressesOf(const std::string& target) {
  return target.substr(target.rfind(kTls, 0) == 0 ? sizeof(kTls) - 1 : 0);
}

bool NeedsCertificate(const std::string& target) {
  if (target.rfind(kTls, 0) == 0) return true;
  for (const std::string& address : std::vector<std::string>(absl::StrSplit(target, ','))) {
    if (address.rfind("unix:", 0) != 0 && !IsLoopbackHost(HostOf(address))) return true;
  }
  return false;
}

absl::Status CheckCoordinatorTarget(const std::string& target) {
  const std::vector<std::string> addresses = absl::StrSplit(AddressesOf(target), ',');
  const AddressKind first = KindOf(addresses[0]);
  for (const std::string& address : addresses) {
    const AddressKind kind = KindOf(address);
    if (kind == AddressKind::kNone) {
      return absl::InvalidArgumentError(absl::StrCat(
          "\"", address, "\" is no address of a coordinator: write unix:PATH or HOST:PORT, such as 127.0.0.1:7850."));
    }
    if (addresses.size() > 1 && (kind != first || kind == AddressKind::kName)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", target,
                       "\" names several coordinators: write all of them as unix:PATH or all as IP addresses of one "
                       "family, such as 127.0.0.1:7850,127.0.0.1:7851."));
    }
  }
  return absl::OkStatus();
}

}  // namespace storyfarm::base
