// The farm's authority, as a coordinator holds it: the key that vouches for members lies in its data folder ("trust",
// membership.h) and nowhere else but with the coordinators that may lead. Behind server.h.
#ifndef STORYFARM_COORDINATOR_RPC_AUTHORITY_H_
#define STORYFARM_COORDINATOR_RPC_AUTHORITY_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/trust.pb.h"
#include "pipeline/base/certificates.h"
#include "pipeline/base/env.h"

namespace storyfarm::coordinator {

// Thread-safe: it does not change.
class FarmAuthority {
 public:
  // NOT_FOUND: the folder holds none. FAILED_PRECONDITION: what it holds can't be used, or its key is open to others.
  static absl::StatusOr<FarmAuthority> Open(base::Env& env, const std::string& trust_folder);
  static absl::StatusOr<FarmAuthority> Create(base::Env& env, const std::string& trust_folder);

  const std::string& key_pem() const { return authority_.key_pem; }
  const std::string& certificate_pem() const { return authority_.certificate_pem; }
  const base::Digest& digest() const { return digest_; }

  // Makes the coordinator's own key and certificate where there are none, and the next certificate where it is due.
  // True: there is a new one.
  absl::StatusOr<bool> RenewOwn(base::Env& env) const;

  // INVALID_ARGUMENT: no signing request.
  absl::StatusOr<base::Certificate> Sign(const std::string& signing_request_pem, const farm::v1::Member& member,
                                         int64_t now_unix_ms) const;

 private:
  FarmAuthority(std::string trust_folder, base::Authority authority, base::Digest digest)
      : trust_folder_(std::move(trust_folder)), authority_(std::move(authority)), digest_(digest) {}

  std::string trust_folder_;
  base::Authority authority_;
  base::Digest digest_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_AUTHORITY_H_
