// Workers of different machines that read each other's caches: under which names and addresses they know each other.
// One spelling for the coordinator, which signs certificates and names peers, and for the workers, which check them.
#ifndef STORYFARM_PIPELINE_PLAN_PEERING_H_
#define STORYFARM_PIPELINE_PLAN_PEERING_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "farm/v1/trust.pb.h"

namespace storyfarm::plan {

// The name in a member's certificate, "ID.worker.storyfarm.internal": its own, so that none can pose as another one, and
// never the coordinators' (pipeline/base/certificates.h).
std::string MemberHost(const farm::v1::Member& member);
// Whether a name in a certificate is a worker's.
bool IsWorkerHost(const std::string& host);

// "tls:HOST:PORT". `host`: a name, an IPv4 address, or an IPv6 address with or without brackets. INVALID_ARGUMENT for
// anything else: what a worker says of itself must not become a socket's path or a list.
absl::StatusOr<std::string> PeerAddress(const std::string& host, uint32_t port);

}  // namespace storyfarm::plan

#endif  // STORYFARM_PIPELINE_PLAN_PEERING_H_
