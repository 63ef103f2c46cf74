// This worker's cache as other workers read it: a BlobService that gives and takes nothing.
//
// Whoever reads checks what comes against the digest that the coordinator named, so a peer can be slow or wrong, but
// nobody draws from what it made up. It listens on a unix socket in a folder closed to other users: it serves the
// workers of the farm's own machine.
#ifndef STORYFARM_WORKER_AGENT_BLOB_SERVER_H_
#define STORYFARM_WORKER_AGENT_BLOB_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "pipeline/base/file_store.h"

namespace storyfarm::worker {

class BlobServer {
 public:
  // Serves `cache`, which outlives it, on a socket in `folder`, which is made where it is missing and belongs to this
  // worker alone. INVALID_ARGUMENT where the path is too long for a socket; FAILED_PRECONDITION where others could open
  // it.
  static absl::StatusOr<std::unique_ptr<BlobServer>> Start(base::FileStore& cache, const std::string& folder);
  // Ends what is being read.
  ~BlobServer();
  BlobServer(const BlobServer&) = delete;
  BlobServer& operator=(const BlobServer&) = delete;

  // As gRPC takes it.
  const std::string& address() const;

 private:
  struct State;
  explicit BlobServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_BLOB_SERVER_H_
