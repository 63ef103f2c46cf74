// What a loop says where nobody listens.
#ifndef STORYFARM_TESTS_COORDINATOR_RPC_UNHEARD_OUTPUTS_H_
#define STORYFARM_TESTS_COORDINATOR_RPC_UNHEARD_OUTPUTS_H_

#include <string>
#include <vector>

#include "coordinator/rpc/loop.h"

namespace storyfarm::coordinator {

inline Loop::Outputs UnheardOutputs() {
  Loop::Outputs outputs;
  outputs.deliver = [](uint64_t, const farm::v1::CoordinatorMessage&) {};
  outputs.close = [](uint64_t, const absl::Status&) {};
  outputs.changed = [](const std::vector<std::string>&) {};
  outputs.ended = [](const absl::Status&) {};
  return outputs;
}

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_TESTS_COORDINATOR_RPC_UNHEARD_OUTPUTS_H_
