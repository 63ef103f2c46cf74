// Pauses between tries: doubling, bounded, and spread so that a farm's workers do not come back all at once.
#ifndef STORYFARM_WORKER_AGENT_BACKOFF_H_
#define STORYFARM_WORKER_AGENT_BACKOFF_H_

#include <algorithm>
#include <cstdint>

namespace storyfarm::worker {

class Backoff {
 public:
  Backoff(int64_t first_ms, int64_t most_ms) : first_ms_(first_ms), most_ms_(most_ms), next_ms_(first_ms) {}

  // The next pause: between half of it and all of it, as 64 random bits say.
  int64_t NextMs(uint64_t random_bits) {
    const int64_t whole = next_ms_;
    next_ms_ = std::min(2 * next_ms_, most_ms_);
    const int64_t half = whole / 2;
    return half + static_cast<int64_t>(random_bits % static_cast<uint64_t>(whole - half + 1));
  }
  void Reset() { next_ms_ = first_ms_; }

 private:
  int64_t first_ms_;
  int64_t most_ms_;
  int64_t next_ms_;
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_AGENT_BACKOFF_H_
