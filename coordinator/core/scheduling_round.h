// Who gets what. A greedy list scheduler over predicted times:
//
//   until no device has room: of the jobs, take the one that holds the fewest groups now (then the oldest). Of its
//   units (an identity task, a page task, the ready frames of one frame set) ask how they would best be spread over all
//   devices, busy ones too: fill up to the level of time T at which all would be done (Spread). A device with room that
//   gets a share at that level is granted about half of it, so that groups shrink towards the end and the tail spreads;
//   a slow device whose share is nothing waits, as a fast one will be done sooner. What a job leaves to busy devices is
//   booked on them, so that the next job sees them as busy. A device that is left with nothing to do asks for frames
//   that the busiest one has not begun (Trim): only what that one gives back moves.
#ifndef STORYFARM_COORDINATOR_CORE_SCHEDULING_ROUND_H_
#define STORYFARM_COORDINATOR_CORE_SCHEDULING_ROUND_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {

class SchedulingRound {
 public:
  explicit SchedulingRound(Farm::Parts* farm) : farm_(*farm) {}

  void Run();

 private:
  struct Place {
    Node* node = nullptr;
    Device* device = nullptr;
    uint32_t index = 0;
    double free_s = 0;  // until it has done all it holds, and what this round booked on it
    bool room = false;
    bool idle = false;  // holds nothing
  };

  struct Offer {
    size_t place = 0;
    double setup_s = 0;  // fetching, loading
    double task_s = 0;   // each task after that
    uint32_t batch = 1;
    bool usable = true;
    uint32_t share = 0;
  };

  struct Unit {
    farm::v1::TaskKind kind = farm::v1::TASK_KIND_UNSPECIFIED;
    uint32_t number = 0;  // task; frames: frame set
  };
  struct JobTurn {
    uint32_t groups = 0;
    uint64_t ordinal = 0;
    std::string id;
    bool operator<(const JobTurn& other) const {
      return groups != other.groups ? groups < other.groups : ordinal < other.ordinal;
    }
  };

  void CollectPlaces();
  // Shares of `tasks` for the usable offers; 0 for the others.
  void Share(std::vector<Offer>& offers, uint32_t tasks) const;
  std::vector<Unit> UnitsOf(const Job& job) const;
  std::vector<Offer>& OffersFor(const Job& job, const Unit& unit);
  // Nothing where the device can't take groups of this shape.
  std::optional<Offer> OfferOf(const Job& job, const Unit& unit, const farm::v1::GroupShape& shape, size_t place_index);
  // Grants one group of the job; false if there is none that should go now.
  bool GrantOne(const Job& job);
  bool GrantUnit(const Job& job, const Unit& unit);
  std::vector<uint32_t> Cut(const Job& job, const Unit& unit, const Place& place, uint32_t most) const;
  bool Grant(const Job& job, const Unit& unit, Offer& offer, std::vector<uint32_t> numbers);
  // Asks a busy device to give back frames that it has not begun, where an idle one would finish them sooner.
  void Steal();
  void StealFor(size_t idle);
  // Whether some other connected node may take a task that aborted an engine on this one.
  bool OthersMayTake(const std::set<uint32_t>& aborted_on, const Job& job) const;

  Farm::Parts& farm_;
  std::vector<Place> places_;
  size_t rooms_ = 0;
  int64_t group_seconds_ = 0;  // longest group of this round
  std::map<std::tuple<std::string, int, uint32_t>, std::vector<Offer>> offers_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_SCHEDULING_ROUND_H_
