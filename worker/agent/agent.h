// The worker's process: everything around the session (worker/core) that touches the world.
//
//                        one thread owns the Session, and never waits for engine, disk or network
//   coordinator <──control stream──> ControlLink ──┐            ┌── DeviceEngine (a thread each) <──socket──> engine
//                                                  ├─EventQueue─┤        outputs go into the blob cache
//   coordinator <──blobs── transfers (threads) ────┤   Session  ├── outbox on disk (a thread, in order)
//   other workers <──blobs─┘                       │            │
//   clock ─────────────────────────────────────────┤            └── blob cache: FileStore with a budget, which
//   the owner: hours, power, use ── OwnerWatch ────┘                other workers read (BlobServer)
//
// The data folder:  lock  version  node-id  speeds  outbox/  cache/  models/ (links into the cache)  runs/ (emptied at
//                   start)  peers/ (the socket that other workers of this machine read from)  trust/ (membership.h)
//
// For the program storyfarm-worker and for tests, which run it in their own process with an engine program of their
// own.
#ifndef STORYFARM_WORKER_AGENT_AGENT_H_
#define STORYFARM_WORKER_AGENT_AGENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"
#include "worker/agent/control_link.h"
#include "worker/agent/machine.h"
#include "worker/agent/owner_rules.h"
#include "worker/agent/owner_watch.h"
#include "worker/agent/wakefulness.h"
#include "worker/core/limits.h"

namespace storyfarm::worker {

struct AgentOptions {
  std::string data_folder;
  std::string node_name;             // for people
  std::vector<std::string> devices;  // as ParseDevices gives them; empty: as ChooseDevices does
  int threads = 0;                   // CPU threads of each engine; 0: as many as the process may use
  uint64_t cache_bytes = uint64_t{50} << 30;
  uint64_t memory_limit_bytes = 0;  // what the farm may take of each device; 0: all
  std::string engine_program;
  std::string software_version;
  // Where workers of other machines read this one's cache, where it has joined by code: as base::NetworkAddress gives it.
  // Empty: they don't.
  std::string peers = "0.0.0.0:0";
  std::string advertise;  // the host that they are told; empty: as the coordinator sees this machine
  OwnerRules owner;
  int64_t owner_every_ms = kOwnerEveryMs;
  bool measure_speed = true;  // takes about a second a device, and one for the disk
  LinkOptions link;
  Limits limits;
};

// All of it outlives the agent.
struct AgentParts {
  base::Env* env = nullptr;
  base::Log* log = nullptr;
  std::function<uint64_t()> random_bits;  // called from several threads
  Machine* machine = nullptr;             // what OwnerRules ask
  Wakefulness* wakefulness = nullptr;     // held while something is leased; null: the machine sleeps as it likes
  std::function<int()> minute_of_week = LocalMinuteOfWeek;
};

class Agent {
 public:
  // Opens the data folder and takes its lock. ALREADY_EXISTS: another worker uses it. FAILED_PRECONDITION: a newer
  // version wrote it. Every message is a sentence for a person.
  static absl::StatusOr<std::unique_ptr<Agent>> Open(const AgentOptions& options, const AgentParts& parts);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Probes the devices, then works until Drain has ended (OK) or the coordinator refuses this worker for good
  // (FAILED_PRECONDITION). A coordinator that can't be reached is waited for. Call once.
  absl::Status Run();

  // Finish what runs, give back the rest, deliver, then leave. Any thread; returns at once.
  void Drain();

  const std::string& node_id() const;

 private:
  struct State;
  explicit Agent(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_AGENT_H_
