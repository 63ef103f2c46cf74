// Events from every thread of the agent to the one that owns the session.
#ifndef STORYFARM_WORKER_AGENT_EVENT_QUEUE_H_
#define STORYFARM_WORKER_AGENT_EVENT_QUEUE_H_

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "worker/core/session.h"

namespace storyfarm::worker {

// Thread-safe. Not bounded by itself: each source has few events under way, as each answers something that the session
// asked for, or is paced by an engine's steps and the coordinator's flow control; and the session never waits.
class EventQueue {
 public:
  void Push(Event event) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      events_.push_back(std::move(event));
    }
    changed_.notify_one();
  }

  // The oldest event; nullopt where none came within `most`.
  std::optional<Event> Pop(std::chrono::milliseconds most) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!changed_.wait_for(lock, most, [this] { return !events_.empty(); })) return std::nullopt;
    Event event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> events_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_EVENT_QUEUE_H_
