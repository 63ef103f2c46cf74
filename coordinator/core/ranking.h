// All connected devices in the order in which they would finish the next task of one kind of work (one model, one shape
// of group). Behind device_pool.h, which says what changed and keeps one ranking a kind.
#ifndef STORYFARM_COORDINATOR_CORE_RANKING_H_
#define STORYFARM_COORDINATOR_CORE_RANKING_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "coordinator/core/fleet.h"
#include "coordinator/core/offer.h"
#include "coordinator/core/spread.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/model.pb.h"
#include "farm/v1/plan.pb.h"

namespace storyfarm::coordinator {

using Seat = uint32_t;

// What a device can take: nothing; a second group, as the one that it runs ends soon; or anything at once.
enum class Room { kNone, kSoon, kIdle };

struct Seated {
  Node* node = nullptr;  // null: the seat is free
  Device* device = nullptr;
  uint32_t index = 0;  // of the device on its node
  bool available = false;
  Room room = Room::kNone;
  double free_s = 0;     // when it has done all that it holds, on the monotonic clock
  int64_t wake_ms = 0;   // when to look at it again; 0: not by time
  uint64_t version = 0;  // of the device when this was written
};

// A device with room and what it would do with a unit; times on the monotonic clock.
struct Candidate {
  Seat seat = 0;
  Offer offer;
  double start_s = 0;   // of its first task: when it is free, has fetched and loaded
  double finish_s = 0;  // of its first task
};

class Ranking {
 public:
  // Of frames or an identity; `shape` stands for the kind.
  Ranking(const farm::v1::ModelManifest& model, farm::v1::GroupShape shape) : model_(model), shape_(std::move(shape)) {}
  // Of pages, which any device composes.
  Ranking() = default;

  void Mark(Seat seat) { dirty_.insert(seat); }
  // Takes in what was marked.
  void Refresh(OfferSource& source, const std::vector<Seated>& seats);

  // Devices that may work and can take this kind, with or without room.
  size_t size() const { return size_; }
  // Tasks that all of them together finish in a second.
  double rate() const { return static_cast<double>(nano_rate_) * 1e-9; }
  // Those with room that would finish a task first, first of all; at most `most`.
  std::vector<Candidate> Nearest(double now_s, size_t most) const;
  // As a candidate, if it has room and can take this kind; `extra_s` is put to its start.
  bool CandidateAt(Seat seat, double now_s, Candidate* candidate) const;
  // Every device as a runner, busy ones too. `setup_s(seat)` is put to each one's start.
  template <typename Setup>
  std::vector<Runner> Runners(double now_s, Setup setup_s) const;

  int64_t asked_ms = 0;  // by RankingFor, last

 private:
  struct Entry {
    bool ranked = false;   // counted in size_ and rate_
    uint64_t version = 0;  // of the device when `offer` was made; 0: never
    Offer offer;
    Room room = Room::kNone;
    double free_s = 0;
    double key = 0;  // in the set of its room
  };

  std::set<std::pair<double, Seat>>& SetOf(Room room) { return room == Room::kIdle ? idle_ : soon_; }
  void Remove(Seat seat);
  Candidate MakeCandidate(Seat seat, double now_s) const;

  farm::v1::ModelManifest model_;
  farm::v1::GroupShape shape_;
  std::vector<Entry> entries_;  // by seat
  std::set<Seat> dirty_;
  std::set<std::pair<double, Seat>> idle_;  // by setup and task
  std::set<std::pair<double, Seat>> soon_;  // by the time at which a task would be done
  size_t size_ = 0;
  int64_t nano_rate_ = 0;  // tasks in 10^9 s: whole numbers, so that what is added can be taken away again
};

template <typename Setup>
std::vector<Runner> Ranking::Runners(double now_s, Setup setup_s) const {
  std::vector<Runner> runners;
  runners.reserve(size_);
  for (Seat seat = 0; seat < entries_.size(); ++seat) {
    const Entry& entry = entries_[seat];
    if (!entry.ranked) continue;
    runners.push_back({std::max(now_s, entry.free_s) + entry.offer.setup_s + setup_s(seat), entry.offer.task_s});
  }
  return runners;
}

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_RANKING_H_
