// Where a run's pictures become files while its device goes on: encoding one takes a large part of a second, in which a
// GPU would wait. For service.cc, which has one lane, and run.cc, which fills it.
//
//   device's thread ── Add(make) ──> lane's threads ── make() ──> told in the order of Add ──> End's word, the last
#ifndef STORYFARM_WORKER_ENGINE_OUTPUT_LANE_H_
#define STORYFARM_WORKER_ENGINE_OUTPUT_LANE_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "farm/v1/engine.pb.h"
#include "pipeline/base/task_threads.h"

namespace storyfarm::engine {

// Sends an event without its request id. An error stops the run.
using Tell = std::function<absl::Status(farm::v1::EngineEvent)>;

// Pictures of a pass of eight come within a moment of each other, and the last ones of a job are waited for.
inline constexpr size_t kOutputThreads = 4;
// Pictures that wait or are encoded at a time; then the device waits. Twice a pass of eight, 7 MB each at 1024x1024.
inline constexpr size_t kMostOutputs = 16;

class OutputLane {
 public:
  // The outputs of one run. Used by one thread; may end before them.
  class Run {
   public:
    Run(OutputLane& lane, Tell tell);
    // Carries `make` out on a thread of the lane and tells what it returns. After a failure nothing more is made.
    void Add(std::function<absl::StatusOr<farm::v1::EngineEvent>()> make);
    // What went wrong first so far, in making or in telling.
    absl::Status status() const;
    // Calls `ended` with status() once all that was added has been told, here or on a thread of the lane.
    void End(std::function<void(absl::Status)> ended);

   private:
    struct State;
    OutputLane& lane_;
    std::shared_ptr<State> state_;
  };

  // Drops what has not begun.
  ~OutputLane() { threads_.Stop(/*finish=*/false); }

 private:
  void Post(std::function<void()> task);

  std::mutex mutex_;
  std::condition_variable changed_;
  size_t waiting_ = 0;  // or carried out
  base::TaskThreads threads_{kOutputThreads};
};

}  // namespace storyfarm::engine

#endif  // STORYFARM_WORKER_ENGINE_OUTPUT_LANE_H_
