// When a coordinator that waits may take the farm over. Pure: the caller asks the store and reads the clock.
//
//   leader   ──Append or Beat at least every kBeatMs──> store      its outputs leave only within kLeaderLeaseMs of one
//   standby  ──Watch every kWatchMs──> store                       takes over after kLeaderSilentMs without a change
//
// The leader counts its lease from before it sent the sign, the standby its silence from after it saw it, each on its
// own monotonic clock. So once a standby takes over, the other one's lease has ended, however long it was frozen. No
// two clocks are compared. Should a clock run slow by more than a third, the epoch in the store still stops every
// write of the deposed one.
#ifndef STORYFARM_COORDINATOR_RPC_LEADER_WATCH_H_
#define STORYFARM_COORDINATOR_RPC_LEADER_WATCH_H_

#include <cstdint>
#include <optional>
#include <string>

#include "coordinator/store/store.h"

namespace storyfarm::coordinator {

// Six beats: one slow fsync deposes nobody. With the load of a state within a second, the farm is served again within
// five seconds of its leader's death.
inline constexpr int64_t kLeaderSilentMs = 3'000;
inline constexpr int64_t kLeaderLeaseMs = 2'000;
inline constexpr int64_t kWatchMs = 250;
// An answer that took longer shows a store that stood still, and then the leader could give no signs either.
inline constexpr int64_t kSlowAnswerMs = 1'000;

// When a batch that is sent until the store answers was a sign of life: the first time that it may have arrived. Sent
// again to a store that has it, it changes nothing there, and who waits sees no new sign.
class AppendSign {
 public:
  void NoAnswer(int64_t asked_ms) {
    if (first_ms_ < 0) first_ms_ = asked_ms;
  }
  int64_t Answered(int64_t asked_ms) const { return first_ms_ < 0 ? asked_ms : first_ms_; }

 private:
  int64_t first_ms_ = -1;
};

class LeaderWatch {
 public:
  // `name`: this coordinator's own. Where it stands as the leader's, that was a process before this one, which is dead:
  // the data folder's lock says so.
  explicit LeaderWatch(std::string name) : name_(std::move(name)) {}

  // What the store said, and when it was asked and had answered. True: take over now, after `seen.epoch` only.
  bool MayTakeOver(const Leadership& seen, int64_t asked_ms, int64_t answered_ms) {
    if (seen.leader.empty() || seen.leader == name_) return true;
    const bool alive = !last_.has_value() || last_->epoch != seen.epoch || last_->head != seen.head ||
                       last_->beats != seen.beats || last_->leader != seen.leader;
    last_ = seen;
    if (alive || answered_ms - asked_ms > kSlowAnswerMs) silent_since_ms_ = answered_ms;
    return asked_ms - silent_since_ms_ >= kLeaderSilentMs;
  }
  // The store did not answer: whoever leads may be waiting for it as well.
  void NoAnswer() { last_.reset(); }

 private:
  const std::string name_;
  std::optional<Leadership> last_;
  int64_t silent_since_ms_ = 0;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_LEADER_WATCH_H_
