// A coordinator that a test plays by hand: it sees every message of a worker, and answers what the test says. Blobs lie
// in memory.
#ifndef STORYFARM_TESTS_WORKER_AGENT_FAKE_COORDINATOR_H_
#define STORYFARM_TESTS_WORKER_AGENT_FAKE_COORDINATOR_H_

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "farm/v1/session.pb.h"

namespace storyfarm::worker {

class FakeCoordinator {
 public:
  // Listens on a unix socket.
  explicit FakeCoordinator(const std::string& socket_path);
  ~FakeCoordinator();

  // ---- Blobs
  farm::v1::BlobRef Put(const std::string& bytes);
  std::optional<std::string> Get(const std::string& digest);
  void Forget(const std::string& digest);
  // Answers reads of this digest with other bytes.
  void Corrupt(const std::string& digest);

  // ---- Session. Each waits up to half a minute; a test fails by getting nullopt.
  std::optional<farm::v1::Hello> WaitHello();
  // The next message for which `wanted` holds; others before it are dropped.
  std::optional<farm::v1::WorkerMessage> Wait(const std::function<bool(const farm::v1::WorkerMessage&)>& wanted);
  std::optional<farm::v1::WorkerMessage> Wait(farm::v1::WorkerMessage::KindCase kind);
  // Waits until the worker's stream has ended.
  bool WaitGone();
  void Send(farm::v1::CoordinatorMessage message);
  // Welcomes with short heartbeats; keeps everything that is held.
  void Welcome(const farm::v1::Hello& hello);
  // Ends the stream, and every one to come, with this status.
  void Refuse(int grpc_code, const std::string& message);
  // Ends the stream as a crash would.
  void BreakStream();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_TESTS_WORKER_AGENT_FAKE_COORDINATOR_H_
