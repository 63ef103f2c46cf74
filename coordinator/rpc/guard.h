// The door for other machines: every call over mutual TLS is checked here against the roster and the table of access.h,
// and nowhere else. Behind server.h.
//
//   TLS handshake: a certificate of the farm's authority, or nothing is said
//     └─> Process, before the call reaches a service: is the certificate's serial in the roster? may its member?
//           └─> LiveCalls, while the call lasts: cut off once its serial leaves the roster
//
// Calls over the unix socket and loopback are the owner's and don't come by here.
#ifndef STORYFARM_COORDINATOR_RPC_GUARD_H_
#define STORYFARM_COORDINATOR_RPC_GUARD_H_

#include <grpcpp/security/auth_context.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/support/server_interceptor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "farm/v1/trust.pb.h"

namespace storyfarm::coordinator {

// Who calls, and with which of its certificates.
struct Caller {
  farm::v1::Member member;
  std::string serial;
};

// Thread-safe.
class Guard : public std::enable_shared_from_this<Guard> {
 public:
  // The whole roster, as far as it is durable. Calls of those who are not in it any more end at once with
  // UNAUTHENTICATED.
  void SetMembers(const std::vector<farm::v1::Member>& members);

  // Empty: the call came from this machine, without a certificate, or with one that does not count.
  std::optional<Caller> CallerOf(const grpc::AuthContext& context) const;

  // OK where the call may go on. UNAUTHENTICATED: the certificate does not count. Else as CheckAccess.
  absl::Status Check(const grpc::AuthContext& context, absl::string_view method) const;

  // Credentials that ask for a certificate of the authority in the trust folder (membership.h), show the coordinator's
  // own, and let Check decide each call. Null guard: whoever has a certificate is let in, for a coordinator that
  // refuses everybody by itself.
  static std::shared_ptr<grpc::ServerCredentials> Credentials(const std::string& trust_folder,
                                                              std::shared_ptr<Guard> guard);
  // For the server builder: notes each call while it lasts.
  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> WatchCalls();

 private:
  class Processor;
  class Interceptors;
  class LiveCall;

  // True where the serial counts, and the call is noted.
  bool Begin(const LiveCall* key, const std::string& serial, grpc_call* call);
  void End(const LiveCall* key);

  struct Live {
    std::string serial;
    grpc_call* call = nullptr;  // a reference to it is held
  };
  mutable std::mutex mutex_;
  std::map<std::string, farm::v1::Member> by_serial_;
  std::map<const LiveCall*, Live> calls_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_GUARD_H_
