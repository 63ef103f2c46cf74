// A coordinator that leads: gRPC services around the core (coordinator/core), whose decisions a store makes durable.
// For coordinator.h, which waits for its turn to lead, and for tests, which run it inside their own process.
//
//   storyctl ──ClientService──┐                        ┌────────── Store thread: one Append for all records that
//   workers ──WorkerService───┼─> bounded queue ─> Loop│<────────> gathered meanwhile; archives; snapshots
//   clock ────tick────────────┘     (loop.h)   owns Farm
//                                                │ messages, replies, closes: each waits until the record
//                                                ▼ that it depends on is durable
//                                     streams and calls
//   storyctl, workers ──BlobService──> coordinator/blob, on threads of its own, never through the loop
//   other machines ──mutual TLS──> Guard (guard.h) ──> the same services;  ──TLS──> JoinService, on a server of its own
//
// Read loop.h next, then client_service.h, worker_service.h and submit.h.
#ifndef STORYFARM_COORDINATOR_RPC_SERVER_H_
#define STORYFARM_COORDINATOR_RPC_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/core/limits.h"
#include "coordinator/store/store.h"
#include "farm/v1/client.pb.h"
#include "pipeline/base/env.h"
#include "pipeline/base/log.h"

namespace storyfarm::coordinator {

// Bounds of the services, each with its reason. What goes over one answers RESOURCE_EXHAUSTED and says which.
struct ServerLimits {
  // One message in: a story is at most 4 MiB, settings and names beside it are small, a blob chunk is 512 KiB. A
  // Hello lists 10,000 digests, 0.4 MB.
  size_t message_bytes = size_t{6} << 20;
  // Out: a job's status with its tasks is about 400 bytes a frame, 20,000 frames.
  size_t reply_bytes = size_t{16} << 20;
  size_t queued_inputs = 10'000;  // about two seconds of the loop at its measured pace
  size_t watches = 1'000;         // open WatchJob streams
  size_t sessions = 4'096;        // connected workers
  // Messages waiting to go out on one worker's stream: a worker that reads so slowly is cut off, and connects again.
  size_t unsent_a_session = 4'096;
  int64_t watch_ms = 250;  // between two messages of one WatchJob
};

// 0: it does not listen there.
struct Ports {
  int listen = 0;
  int network = 0;
  int join = 0;
};

class LogBook;        // log_book.h
class WebhookSender;  // webhooks.h

struct ServerOptions {
  std::string data_folder;        // exists, 0700, locked by the caller
  std::string blob_folder;        // empty: "blobs" in the data folder
  bool blobs_shared = false;      // other coordinators of this farm write there, too
  uint64_t blob_quota_bytes = 0;  // blob_store.h
  uint64_t low_disk_bytes = 0;    // disk_watch.h; 0: nothing is held back
  std::string socket_path;        // unix socket to listen on; empty: none
  std::string listen;  // "127.0.0.1:PORT", "[::1]:PORT" or "localhost:PORT", PORT 0: any free one; empty: none
  // Other machines, over mutual TLS: IP address and port, PORT 0: any free one; empty: this machine only.
  std::string network;
  int join_port = 0;                   // where they join, on the same address; 0: any free one
  std::vector<std::string> advertise;  // hosts that they know this machine by; empty: as listen.h finds them
  std::string software_version;
  int64_t leader_lease_ms = 0;              // loop.h
  std::optional<uint64_t> take_over_after;  // loop.h
  Limits farm;
  ServerLimits limits;
};

// What the server stands on; all of it outlives the server.
struct ServerParts {
  base::Env* env = nullptr;
  base::Log* log = nullptr;
  const LogBook* log_book = nullptr;      // what ReadLog answers from; the log writes into it
  Store* store = nullptr;                 // used by one thread of the server at a time
  std::function<uint64_t()> random_bits;  // 64 unpredictable bits a call; called from any thread
  // Whom to tell of each job's end; empty: nobody. Called once a server.
  std::function<std::unique_ptr<WebhookSender>()> webhook = {};
  // Makes a link to the farm's web page, from any thread; empty: there is none.
  std::function<absl::StatusOr<farm::v1::OpenWebResponse>(const farm::v1::OpenWebRequest&)> open_web = {};
  // The socket on which the page serves visitors from other machines who may do what the role may; empty: none.
  std::function<std::string(farm::v1::Role)> visitor_socket = {};
};

class Server {
 public:
  // Takes the store over, replays it, opens the blob store below the data folder and listens.
  // INVALID_ARGUMENT: an address that is none, or `listen` is not loopback. UNAUTHENTICATED: the farm's members trust
  // another authority than this coordinator has; where others may lead, it then serves this machine only.
  // ALREADY_EXISTS: the port or socket is in use. DATA_LOSS, UNAVAILABLE, ABORTED and the like as the store says. Every
  // message is a sentence for a person.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options, const ServerParts& parts);

  // Stops at once: streams break, workers go on and come back.
  ~Server();

  // The TCP ports that it listens on.
  Ports ports() const;
  int port() const { return ports().listen; }

  // Waits until the server can't go on (another coordinator took the store over, the log is damaged), or Drain has
  // ended. OK after Drain.
  absl::Status Wait();

  // Refuses new calls, waits until all that was accepted is durable and answered, ends the streams. Returns at once;
  // Wait tells when it is done. Any thread.
  void Drain();

 private:
  struct Parts;
  explicit Server(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_SERVER_H_
