// The new machine's side of joining a farm (join.proto), and of staying in it. Target storyfarm_join. Functions block.
#ifndef STORYFARM_PIPELINE_BASE_JOIN_CLIENT_H_
#define STORYFARM_PIPELINE_BASE_JOIN_CLIENT_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "farm/v1/trust.pb.h"
#include "pipeline/base/env.h"

namespace storyfarm::base {

struct JoinOptions {
  std::string code;  // as a person typed it
  farm::v1::MemberKind kind = farm::v1::MEMBER_KIND_UNSPECIFIED;
  std::string name;          // where the code names none
  std::string node_id;       // of a worker
  std::string trust_folder;  // where the membership is kept (membership.h)
};
struct Joined {
  farm::v1::Member member;
  std::string farm;  // its address; kept in the trust folder
};
// Nothing of the code's secret is sent to anybody but the farm that the code names. Every error is a sentence that says
// what to do: INVALID_ARGUMENT (no such code can be), UNAVAILABLE (nothing answers), FAILED_PRECONDITION (another farm
// answers, the clocks differ, the code is used or of another kind), DEADLINE_EXCEEDED (too old), ALREADY_EXISTS (the
// name is taken), ...
absl::StatusOr<Joined> JoinFarm(Env& env, const JoinOptions& options);

// Fetches the next certificate where a third of this one's life is gone: `channel` is to the farm, by the membership in
// the folder. False: it was not due. Connections that are open stay as they are.
absl::StatusOr<bool> RenewIfDue(Env& env, const std::string& trust_folder,
                                const std::shared_ptr<grpc::Channel>& channel);

}  // namespace storyfarm::base

#endif  // STORYFARM_PIPELINE_BASE_JOIN_CLIENT_H_
