// Ends what does not move: a thread that looks at all calls of a server, each of which says when it got on.
#ifndef STORYFARM_WORKER_AGENT_STALL_WATCH_H_
#define STORYFARM_WORKER_AGENT_STALL_WATCH_H_

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "absl/time/time.h"

namespace storyfarm::worker {

class StallWatch {
 public:
  // One call, as long as this lives.
  class Watched {
   public:
    // `end` is called once, from another thread, where Moved was not for as long as `stall`; never after this is gone.
    Watched(StallWatch& watch, std::function<void()> end);
    ~Watched();
    Watched(const Watched&) = delete;
    Watched& operator=(const Watched&) = delete;
    void Moved();

   private:
    friend class StallWatch;
    StallWatch& watch_;
    const std::function<void()> end_;
    std::chrono::steady_clock::time_point moved_;
    bool ended_ = false;
  };

  explicit StallWatch(absl::Duration stall);
  ~StallWatch();

 private:
  void Main();

  const std::chrono::milliseconds stall_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool leaving_ = false;
  std::set<Watched*> calls_;
  std::thread thread_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_STALL_WATCH_H_
