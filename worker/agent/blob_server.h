// This worker's cache as other workers read it: a BlobService that gives and takes nothing.
//
//   workers of the farm's own machine ──unix socket in a folder closed to other users──┐
//                                                                                       ├─> Read ──> cache
//   workers that joined by code ──mutual TLS: a certificate of the farm's authority,────┘
//                                 a worker's, whose serial was admitted
//
// Whoever reads checks what comes against the digest that the coordinator named, so a peer can be slow or wrong, but
// nobody draws from what it made up.
//
// Who was removed from the farm still has its certificate. So a certificate alone opens nothing: this worker holds the
// serials that count, as the coordinator tells them over the control stream, whole with each Welcome and then each
// change (ReadersChanged). A serial that is struck out ends its reads in the middle of a blob, and a worker that
// has lost its coordinator for longer than a lease admits nobody, as it can't hear of removals (worker/core/control.cc).
// Behind a network that swallows packets a lost stream is noticed after 40 s, so a removal holds everywhere within a
// minute. No ticket with a date could do that: clocks of machines differ by a day.
#ifndef STORYFARM_WORKER_AGENT_BLOB_SERVER_H_
#define STORYFARM_WORKER_AGENT_BLOB_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "farm/v1/session.pb.h"
#include "pipeline/base/file_store.h"

namespace storyfarm::worker {

// Thread-safe.
class BlobServer {
 public:
  // Serves `cache`, which outlives it, on a socket in `folder`, which is made where it is missing and belongs to this
  // worker alone. INVALID_ARGUMENT where the path is too long for a socket; FAILED_PRECONDITION where others could open
  // it.
  static absl::StatusOr<std::unique_ptr<BlobServer>> Start(base::FileStore& cache, const std::string& folder);
  // Serves it to workers of other machines at an address as base::NetworkAddress gives it, with the certificate in
  // `trust_folder`. Nobody is admitted yet. A read of which nothing leaves for as long as `stall` is ended. UNAVAILABLE:
  // the address is taken, or not of this machine.
  static absl::StatusOr<std::unique_ptr<BlobServer>> StartForMembers(base::FileStore& cache, const std::string& network,
                                                                     const std::string& trust_folder,
                                                                     absl::Duration stall = absl::Seconds(30));
  // Ends what is being read.
  ~BlobServer();
  BlobServer(const BlobServer&) = delete;
  BlobServer& operator=(const BlobServer&) = delete;

  // Whose certificates may read: `whole` in place of those before, else as `change` says.
  void Admit(bool whole, const farm::v1::ReadersChanged& change);

  // Of the socket, as gRPC takes it; empty where it serves members.
  const std::string& address() const;
  // Where it serves members.
  int port() const;
  // Bytes of blobs that were given so far.
  uint64_t given_bytes() const;

 private:
  struct State;
  explicit BlobServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_BLOB_SERVER_H_
