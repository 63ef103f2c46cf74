#include "pipeline/plan/peering.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "pipeline/plan/names.h"

namespace storyfarm::plan {
namespace {

constexpr size_t kHostBytes = 253;  // of a name, RFC 1035

std::string HostOf(const std::string& member_id, farm::v1::MemberKind kind) {
  return absl::StrCat(member_id, ".", MemberKindName(kind), ".storyfarm.internal");
}

bool IsName(const std::string& host) {
  return std::all_of(host.begin(), host.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_';
         });
}

bool IsIpv6(const std::string& host) {
  return host.find(':') != std::string::npos && std::all_of(host.begin(), host.end(), [](unsigned char c) {
           return absl::ascii_isxdigit(c) || c == ':' || c == '.';
         });
}

}  // namespace

std::string MemberHost(const farm::v1::Member& member) { return HostOf(member.member_id(), member.kind()); }

bool IsWorkerHost(const std::string& host) { return absl::EndsWith(host, HostOf("", farm::v1::MEMBER_WORKER)); }

absl::StatusOr<std::string> PeerAddress(const std::string& host, uint32_t port) {
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  const std::string bare = bracketed ? host.substr(1, host.size() - 2) : host;
  const bool v6 = IsIpv6(bare);
  if (bare.empty() || bare.size() > kHostBytes || (bracketed && !v6) || (!v6 && !IsName(bare))) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", host, "\" is no host: write a name or an IP address, such as mini.local or 192.168.1.7."));
  }
  if (port == 0 || port > 65535) return absl::InvalidArgumentError(absl::StrCat(port, " is no port."));
  return v6 ? absl::StrCat("tls:[", bare, "]:", port) : absl::StrCat("tls:", bare, ":", port);
}

}  // namespace storyfarm::plan
