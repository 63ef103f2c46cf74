#include "worker/engine/service.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "farm/v1/engine.pb.h"
#include "pipeline/base/framing.h"
#include "pipeline/base/task_threads.h"
#include "worker/engine/bank_feed.h"
#include "worker/engine/convert.h"
#include "worker/engine/output_lane.h"
#include "worker/engine/run.h"

namespace storyfarm::engine {
namespace {

class Service {
 public:
  Service(int fd, base::Env& env, render::Renderer& renderer, int threads)
      : fd_(fd), env_(env), renderer_(renderer), threads_(threads) {}

  absl::Status Serve() {
    std::thread reader([this] { Read(); });
    while (std::optional<farm::v1::EngineRequest> request = NextRequest()) Handle(*request);
    reader.join();
    composer_.Stop(/*finish=*/false);
    return ending_;
  }

 private:
  void Read() {
    for (;;) {
      auto bytes = base::ReadFrame(fd_);
      if (!bytes.ok() || !bytes->has_value()) {
        Leave(bytes.ok() ? absl::OkStatus() : bytes.status());
        return;
      }
      farm::v1::EngineRequest request;
      if (!request.ParseFromString(**bytes)) {
        Leave(absl::DataLossError("the engine's parent sent bytes that are no EngineRequest"));
        return;
      }
      if (request.has_memory()) {
        SendMemory(request.request_id());
      } else if (request.has_bank_step()) {
        const farm::v1::BankStepHere& step = request.bank_step();
        feed_.Put(request.request_id(), step.character(), step.step(), step.path());
      } else if (!Enqueue(request)) {
        SendFailure(request.request_id(),
                    render::Fail(render::FailureKind::kBadInput,
                                 absl::StrCat("the engine already has ", kMaxQueuedRequests, " requests waiting")));
      }
    }
  }

  bool Enqueue(farm::v1::EngineRequest& request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    // Pages need no device, which may draw meanwhile.
    if (request.run().work().has_page()) {
      if (pages_ >= kMaxQueuedRequests) return false;
      ++pages_;
      composer_.Post([this, page = std::move(request)] {
        Run(page.request_id(), page.run());
        const std::lock_guard<std::mutex> over(mutex_);
        --pages_;
      });
      return true;
    }
    if (queue_.size() >= kMaxQueuedRequests) return false;
    queue_.push_back(std::move(request));
    changed_.notify_all();
    return true;
  }

  // No parent, no purpose: the run in progress stops at its next step, and a step that never ends is cut short.
  void Leave(absl::Status why) {
    std::unique_lock<std::mutex> lock(mutex_);
    ending_ = std::move(why);
    leaving_ = true;
    changed_.notify_all();
    feed_.End(UINT64_MAX);
    if (!changed_.wait_for(lock, std::chrono::milliseconds(kLeaveAfterMs), [this] { return idle_; })) _exit(1);
  }

  std::optional<farm::v1::EngineRequest> NextRequest() {
    std::unique_lock<std::mutex> lock(mutex_);
    idle_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return leaving_ || !queue_.empty(); });
    if (leaving_) return std::nullopt;
    farm::v1::EngineRequest request = std::move(queue_.front());
    queue_.pop_front();
    idle_ = false;
    return request;
  }

  void Handle(const farm::v1::EngineRequest& request) {
    switch (request.kind_case()) {
      case farm::v1::EngineRequest::kProbe:
        return Probe(request.request_id(), request.probe());
      case farm::v1::EngineRequest::kRun:
        return Run(request.request_id(), request.run());
      default:
        SendFailure(request.request_id(), render::Fail(render::FailureKind::kBadInput,
                                                       "the engine does not know this kind of request: engine and "
                                                       "parent are of different versions; install them together"));
    }
  }

  void Probe(uint64_t id, const farm::v1::ProbeRequest& probe) {
    farm::v1::EngineEvent event;
    const device::Report own = renderer_.Report(probe.measure_speed());
    *event.mutable_probed()->add_devices() = ToMessage(own, 0);
    const std::vector<device::Report> all =
        probe.own_only() ? std::vector<device::Report>() : render::Renderer::ProbeAll(probe.measure_speed(), threads_);
    for (const device::Report& report : all) {
      if (report.backend == own.backend && report.ordinal == own.ordinal) continue;
      *event.mutable_probed()->add_devices() = ToMessage(report, event.probed().devices_size());
    }
    SendEvent(id, std::move(event)).IgnoreError();  // a closed socket is seen by the reader
  }

  void Run(uint64_t id, const farm::v1::RunRequest& run) {
    const auto tell = [this, id](farm::v1::EngineEvent event) {
      if (leaving_) return absl::CancelledError("the engine's parent has gone");
      return SendEvent(id, std::move(event));
    };
    const Growing growing{[this, id](uint32_t character, uint32_t step) { return feed_.Wait(id, character, step); },
                          [this, id] { feed_.End(id); }};
    OutputLane::Run outputs(outputs_, tell);
    absl::StatusOr<farm::v1::RunDone> done = RunWork(run, env_, renderer_, tell, outputs, growing);
    outputs.End([this, id, done = std::move(done)](absl::Status written) {
      if (!done.ok() || !written.ok()) return SendFailure(id, done.ok() ? written : done.status());
      farm::v1::EngineEvent event;
      *event.mutable_run() = *done;
      SendEvent(id, std::move(event)).IgnoreError();
    });
  }

  void SendMemory(uint64_t id) {
    farm::v1::EngineEvent event;
    *event.mutable_memory()->mutable_memory() = ToMessage(renderer_.MemoryNow());
    SendEvent(id, std::move(event)).IgnoreError();
  }

  void SendFailure(uint64_t id, const absl::Status& why) {
    farm::v1::EngineEvent event;
    *event.mutable_failed()->mutable_failure() = ToMessage(why);
    SendEvent(id, std::move(event)).IgnoreError();
  }

  absl::Status SendEvent(uint64_t id, farm::v1::EngineEvent event) {
    event.set_request_id(id);
    const std::string bytes = event.SerializeAsString();
    const std::lock_guard<std::mutex> lock(write_mutex_);
    return base::WriteFrame(fd_, bytes);
  }

  const int fd_;
  base::Env& env_;
  render::Renderer& renderer_;
  const int threads_;

  BankFeed feed_;
  std::mutex write_mutex_;  // one event at a time on the socket
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<farm::v1::EngineRequest> queue_;
  size_t pages_ = 0;  // composed or waiting
  bool idle_ = true;
  std::atomic<bool> leaving_ = false;  // also read by a run between its steps
  absl::Status ending_;
  // Last: their threads use the above.
  OutputLane outputs_;
  base::TaskThreads composer_{1};
};

}  // namespace

absl::Status Serve(int fd, base::Env& env, render::Renderer& renderer, int threads) {
  return Service(fd, env, renderer, threads).Serve();
}

}  // namespace storyfarm::engine
