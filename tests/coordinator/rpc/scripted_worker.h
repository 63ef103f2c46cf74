// A worker that speaks the session's protocol and draws nothing: each result's blobs hold its task's name.
#ifndef STORYFARM_TESTS_COORDINATOR_RPC_SCRIPTED_WORKER_H_
#define STORYFARM_TESTS_COORDINATOR_RPC_SCRIPTED_WORKER_H_

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "farm/v1/session.pb.h"
#include "tests/coordinator/rpc/test_farm.h"

namespace storyfarm::coordinator {

using SessionStream = grpc::ClientReaderWriter<farm::v1::WorkerMessage, farm::v1::CoordinatorMessage>;

farm::v1::Hello HelloOf(const std::string& node);

// Results of one grant, their blobs uploaded where `upload` says so.
std::vector<farm::v1::WorkerMessage> ResultsOf(Client& client, const farm::v1::Grant& grant, bool upload);

// Answers every grant from a thread of its own until it is stopped.
class ScriptedWorker {
 public:
  // Goes silent when it has sent `results` results: it stays connected and holds what it was granted.
  ScriptedWorker(const std::string& target, const std::string& node, int results = 1'000'000)
      : ScriptedWorker(Client(target), node, results) {}
  ScriptedWorker(Client client, const std::string& node, int results = 1'000'000);
  ~ScriptedWorker() { Stop(); }
  // Breaks the stream; returns how it ended.
  grpc::Status Stop();
  // Waits until the coordinator ends the stream; returns how.
  grpc::Status WaitForEnd();
  // Waits until so many results were accepted, or the stream has ended. True: they were.
  bool WaitForAccepted(int count);

  std::vector<std::string> done() const;  // tasks whose results were accepted

 private:
  void Main(const std::string& node, int results);

  Client client_;
  grpc::ClientContext context_;
  std::unique_ptr<SessionStream> stream_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> done_;
  bool ended_ = false;
  grpc::Status status_;
  std::thread thread_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_TESTS_COORDINATOR_RPC_SCRIPTED_WORKER_H_
