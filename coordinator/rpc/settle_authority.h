// Which authority a leading coordinator serves other machines with: the one in its trust folder, where that is the one
// that the farm's members trust. Behind server.h.
#ifndef STORYFARM_COORDINATOR_RPC_SETTLE_AUTHORITY_H_
#define STORYFARM_COORDINATOR_RPC_SETTLE_AUTHORITY_H_

#include <string>

#include "absl/status/statusor.h"
#include "coordinator/rpc/authority.h"
#include "coordinator/rpc/loop.h"
#include "pipeline/base/env.h"

namespace storyfarm::coordinator {

// Makes one where the farm has none or nobody who trusts it, with the coordinator's own certificate; durable before it
// returns. The loop runs. UNAUTHENTICATED: members trust another, and this coordinator lacks its key.
absl::StatusOr<FarmAuthority> SettleAuthority(Loop& loop, base::Env& env, const std::string& trust_folder);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_SETTLE_AUTHORITY_H_
