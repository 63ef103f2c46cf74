#include "worker/engine/output_lane.h"

#include <utility>

namespace storyfarm::engine {

struct OutputLane::Run::State {
  explicit State(Tell tell_in) : tell(std::move(tell_in)) {}

  // Tells what is next in order, as far as it is made. With `mutex` held, so that events keep their order.
  void TellReady() {
    for (auto next = made.find(told); next != made.end(); next = made.find(told)) {
      absl::StatusOr<farm::v1::EngineEvent> event = std::move(next->second);
      made.erase(next);
      ++told;
      if (failed.ok() && event.ok()) failed = tell(*std::move(event));
      if (failed.ok() && !event.ok()) failed = event.status();
    }
    if (ended && told == added) std::exchange(ended, nullptr)(failed);
  }

  const Tell tell;
  mutable std::mutex mutex;
  absl::Status failed;
  size_t added = 0;
  size_t told = 0;
  std::map<size_t, absl::StatusOr<farm::v1::EngineEvent>> made;  // by their order
  std::function<void(absl::Status)> ended;
};

OutputLane::Run::Run(OutputLane& lane, Tell tell) : lane_(lane), state_(std::make_shared<State>(std::move(tell))) {}

void OutputLane::Run::Add(std::function<absl::StatusOr<farm::v1::EngineEvent>()> make) {
  size_t number = 0;
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    number = state_->added++;
  }
  lane_.Post([state = state_, number, make = std::move(make)] {
    absl::StatusOr<farm::v1::EngineEvent> event = absl::CancelledError("an earlier picture of the run failed");
    absl::Status failed;
    {
      const std::lock_guard<std::mutex> lock(state->mutex);
      failed = state->failed;
    }
    if (failed.ok()) event = make();
    const std::lock_guard<std::mutex> lock(state->mutex);
    state->made.emplace(number, std::move(event));
    state->TellReady();
  });
}

absl::Status OutputLane::Run::status() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->failed;
}

void OutputLane::Run::End(std::function<void(absl::Status)> ended) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->ended = std::move(ended);
  state_->TellReady();
}

void OutputLane::Post(std::function<void()> task) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return waiting_ < kMostOutputs; });
    ++waiting_;
  }
  threads_.Post([this, task = std::move(task)] {
    task();
    const std::lock_guard<std::mutex> lock(mutex_);
    --waiting_;
    changed_.notify_one();
  });
}

}  // namespace storyfarm::engine
