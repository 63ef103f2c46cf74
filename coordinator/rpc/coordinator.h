// The coordinator as a process: waits for its turn, leads, and waits again where it lost the lead. For the program
// storyfarm-coordinator and for tests. Its front doors: leader_watch.h (when it may lead), server.h (what leading is).
//
//             nobody leads, or the leader is silent
//   standing by ──────────────────────────────────> leading: Server
//    ^  every call: UNAVAILABLE, and why              │   │
//    └────────────────────────────────────────────────┘   └─ Stop: drains, lets go of the lead ─> OK
//      deposed, or the store is away: State is thrown away
#ifndef STORYFARM_COORDINATOR_RPC_COORDINATOR_H_
#define STORYFARM_COORDINATOR_RPC_COORDINATOR_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/rpc/listening.h"
#include "coordinator/rpc/server.h"

namespace storyfarm::coordinator {

struct CoordinatorOptions {
  ServerOptions server;  // but for take_over_after and leader_lease_ms
  std::string name;      // the store's: nobody else's who may lead this farm
  bool alone = true;     // nobody else can reach the store
};

class Coordinator {
 public:
  struct Events {
    // It answers at its addresses, on these ports, leading or standing by. Once. An error ends Run.
    std::function<absl::Status(const Ports& ports, bool leads)> listens;
  };
  // What `parts` names outlives this; the store is used by one thread at a time.
  Coordinator(CoordinatorOptions options, const ServerParts& parts, Events events);

  // Until Stop (OK), or where it can't go on: as Server::Start and Wait say. A store that can't be reached is an error
  // at the start, and waited for later on. Once.
  absl::Status Run();

  // What was accepted is made safe first. Any thread, returns at once.
  void Stop();

 private:
  // The epoch after which it may take over. CANCELLED: stopped.
  absl::StatusOr<uint64_t> WaitForTurn();
  // Opens the door where it is closed, and says this behind it.
  absl::Status Refuse(std::unique_ptr<Listening>& door, const std::string& sentence);
  // Other machines are told, too, that it stands by, where it has the farm's authority.
  absl::Status StandByForOthers(ListenOptions& listen);
  // Why leading ended; OK after Stop.
  absl::Status Lead(uint64_t after_epoch);
  absl::Status Announce(const Ports& ports, bool leads);
  // Whether it was stopped within this time.
  bool StoppedWithin(int64_t ms);

  CoordinatorOptions options_;
  const ServerParts parts_;
  const Events events_;
  bool announced_ = false;
  std::string trouble_;  // why it does not lead although it may; empty: none

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  Server* server_ = nullptr;  // while it leads
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_COORDINATOR_H_
