// One simulated worker: the real session and outbox (worker/core) on a real stream, around an engine that renders
// nothing. Behind fleet.h.
#ifndef STORYFARM_TOOLS_BENCH_FARM_LOAD_SIM_WORKER_H_
#define STORYFARM_TOOLS_BENCH_FARM_LOAD_SIM_WORKER_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "farm/v1/session.grpc.pb.h"
#include "tools/bench/farm_load/fleet.h"
#include "worker/core/keys.h"
#include "worker/core/session.h"

namespace storyfarm::bench {

class SimWorker : public grpc::ClientBidiReactor<farm::v1::WorkerMessage, farm::v1::CoordinatorMessage>,
                  public std::enable_shared_from_this<SimWorker> {
 public:
  SimWorker(Fleet* fleet, int number);

  void Start(const std::shared_ptr<grpc::Channel>& channel);
  // Takes an event and all that follows from it at once. Any thread.
  void Do(worker::Event event);
  void Cancel() { context_.TryCancel(); }
  void WaitDone();

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  // Carried out with mutex_ held; what follows at once goes to events_.
  void Take(worker::Send& action);
  void Take(worker::Prepare& action) { events_.push_back(worker::Prepared{action.token}); }
  void Take(worker::Follow&) {}
  void Take(worker::Admit&) {}  // nobody reads from it
  void Take(worker::Release&) {}
  void Take(worker::Measure& action);
  void Take(worker::StartRun& action);
  void Take(worker::StopEngine& action);
  void Take(worker::StartEngine& action) { events_.push_back(worker::EngineReady{action.device}); }
  void Take(worker::Persist& action);
  void Take(worker::Clear& action);
  void Take(worker::Upload& action);
  void Take(worker::KeepSpeeds&) {}  // simulated ones are told theirs
  void Take(worker::Limit& action) { events_.push_back(worker::OwnerSays{.resting = "", .limits = action.number}); }
  void Take(worker::Drained&) {}
  void Take(worker::Note&) {}
  void WriteNext();
  void StorePages(const worker::StartRun& run);
  void StoreFrame(const worker::StartRun& run, int index);
  void EndRun(const worker::StartRun& run);

  Fleet* const fleet_;
  const int number_;
  std::unique_ptr<farm::v1::WorkerService::Stub> stub_;
  grpc::ClientContext context_;
  farm::v1::CoordinatorMessage incoming_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool started_ = false;
  bool ended_ = false;
  bool done_ = false;
  bool writing_ = false;
  std::deque<farm::v1::WorkerMessage> outgoing_;
  std::deque<worker::Event> events_;
  worker::Session session_;
  std::map<std::string, uint64_t> blobs_;  // digest -> FrameBytes' number, until it is durable
  std::map<std::pair<worker::TokenKey, worker::TaskKey>, double> finished_;  // when, in seconds; until cleared
};

}  // namespace storyfarm::bench

#endif  // STORYFARM_TOOLS_BENCH_FARM_LOAD_SIM_WORKER_H_
