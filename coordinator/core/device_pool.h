// The connected devices by what they can take now. Each sits on a numbered seat; whoever changes what a device holds,
// how fast it is or whether it may work says so (Touch), and the pool keeps two things in order: when each seat gets
// room, and the rankings of all seats for each kind of work that is waiting. No question looks at every device, so that
// a decision costs the logarithm of their number.
#ifndef STORYFARM_COORDINATOR_CORE_DEVICE_POOL_H_
#define STORYFARM_COORDINATOR_CORE_DEVICE_POOL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/farm.h"
#include "coordinator/core/fleet.h"
#include "coordinator/core/job.h"
#include "coordinator/core/ranking.h"

namespace storyfarm::coordinator {

class DevicePool {
 public:
  explicit DevicePool(Farm::Parts* farm) : farm_(*farm) {}
  ~DevicePool();

  // The node's devices take seats, or give them up: when its session begins and before it ends.
  void Join(Node& node);
  void Leave(Node& node);
  // Something of a node that has seats changed: what it holds, whether it may work, how it is expected to go on.
  void Touch(Node& node);
  // All that was learned of every device may count differently now.
  void TouchAllOffers();
  // Looks again at the seats whose time has come. First of all in a round.
  void Wake();

  const std::vector<Seated>& seats() const { return seats_; }
  size_t rooms() const { return rooms_; }
  size_t idle() const { return idle_; }
  // Raised by every change that a level of time depends on.
  uint64_t changes() const { return changes_; }
  // Whether a seat got room, or offers more than before, since this was asked last.
  bool TakeOpened();

  // The unit's first ready tasks, so many that a plan for them stands for a plan for all.
  static std::vector<uint32_t> SampleOf(const Job& job, const Unit& unit);
  // The devices ranked for tasks of a unit, up to date; valid until the next call. Null where there are no tasks.
  Ranking* RankingFor(const Job& job, const Unit& unit, const std::vector<uint32_t>& sample);

 private:
  void Update(Seat seat);
  void Rearm(Seat seat, size_t groups);
  void Free(Seat seat);
  void MarkEverywhere(Seat seat);

  Farm::Parts& farm_;
  std::vector<Seated> seats_;
  std::vector<Seat> free_seats_;
  std::set<std::pair<int64_t, Seat>> timers_;
  std::map<std::string, std::unique_ptr<Ranking>> rankings_;
  size_t rooms_ = 0;
  size_t idle_ = 0;
  uint64_t changes_ = 0;
  bool opened_ = false;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_DEVICE_POOL_H_
