// The control stream to the coordinator: opened, kept, opened again after a pause when it broke. Blobs do not pass
// here.
#ifndef STORYFARM_WORKER_AGENT_CONTROL_LINK_H_
#define STORYFARM_WORKER_AGENT_CONTROL_LINK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "farm/v1/session.pb.h"
#include "pipeline/base/log.h"
#include "worker/agent/event_queue.h"

namespace storyfarm::worker {

struct LinkOptions {
  std::string coordinator;  // "unix:/path", "127.0.0.1:7777"; several with commas: whichever leads (farm_channel.h)
  std::string trust_folder;  // what joining the farm brought (membership.h), for one on another machine
  // A restarting coordinator is away for a second or two, a take-over needs four; one that is gone should not be asked
  // more often.
  int64_t first_pause_ms = 250;
  int64_t most_pause_ms = 3000;
  // A coordinator that accepts a stream and says nothing is given up on.
  int64_t welcome_within_ms = 15'000;
  // Refused because another process has this node's id, it goes on for longer than a lease: a process of its own that
  // was killed may look alive for so long. Then the other one is another machine's.
  int64_t twin_patience_ms = 20'000;
  // Messages waiting to leave: a coordinator that reads so slowly is as good as gone.
  size_t unsent = 4096;
};

struct LinkParts {
  base::Log* log = nullptr;
  EventQueue* events = nullptr;
  std::function<uint64_t()> random_bits;
  // Digests for Hello, the most recently used first. Called on the link's thread.
  std::function<std::vector<std::string>()> cached;
  // The coordinator refuses this worker for good (its protocol version, a node id that another machine has, too, a
  // certificate that does not count any more): a sentence. Called once, on the link's thread.
  std::function<void(const absl::Status&)> on_refused;
};

class ControlLink {
 public:
  ControlLink(LinkOptions options, LinkParts parts);
  ~ControlLink();

  // Connects, on a thread of its own, until Stop. Pushes Connected, CoordinatorSaid and Disconnected.
  void Start();
  // Never blocks. Dropped where there is no stream: the session says it again after the next Welcome.
  void Send(farm::v1::WorkerMessage message);
  // Lets what was sent leave, for at most `grace_ms`, and closes. Blocks.
  void Stop(int64_t grace_ms);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_CONTROL_LINK_H_
