// The farm as the web page asks it: over gRPC, through the coordinator's own unix socket, like storyctl on the same
// machine. So the page has the doors that everybody has, answers as they do while this coordinator stands by or takes
// over, and outlives both. For the program (main.cc) and tests.
#ifndef STORYFARM_COORDINATOR_RPC_WEB_DOOR_H_
#define STORYFARM_COORDINATOR_RPC_WEB_DOOR_H_

#include <memory>
#include <string>

#include "coordinator/web/farm_door.h"

namespace storyfarm::coordinator {

// Calls get so long: a person looks at a page meanwhile.
inline constexpr int kDoorSeconds = 10;

// `target`: "unix:" and the path of the coordinator's socket. Nothing is asked yet.
std::unique_ptr<FarmDoor> OpenWebDoor(const std::string& target);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_WEB_DOOR_H_
