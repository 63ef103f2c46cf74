// Who gets what. A greedy list scheduler over predicted finishes:
//
//   The jobs are asked in order (job_queue.h) for their units: an identity task, a page task, the ready frames of one
//   frame set. Of the devices with room the one that would finish the unit's next task first is offered it
//   (ranking.h). It takes it if it is worth waiting no longer: if it finishes a task by the *level*, the time at which
//   the work at hand would be done if it were spread best over all devices, busy ones too (spread.h). A device that
//   would finish later than that waits, as a faster one will be done sooner; but a unit is held back only for so long.
//   A device is granted about half of what it would do by the level, so that groups shrink towards the end and the tail
//   spreads. Where nothing is left to grant, an idle device gets frames that a busy one has not begun (Trim): only what
//   that one gives back moves.
//
// What one decision costs: the device is the first of an ordered set, the job too; the level, which looks at every
// device, is computed where a bound does not decide already, and kept until a sixteenth of the devices changed or a
// tick has passed. So a decision takes the logarithm of the devices, and of the frames (ready frames are bitmaps).
#ifndef STORYFARM_COORDINATOR_CORE_SCHEDULING_ROUND_H_
#define STORYFARM_COORDINATOR_CORE_SCHEDULING_ROUND_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {

class SchedulingRound {
 public:
  explicit SchedulingRound(Farm::Parts* farm);

  void Run();

  // The candidates for a unit, soonest finish first, and how much each would do by the level. For explain, too.
  struct Question {
    const Job* job = nullptr;
    Unit unit;
    Ranking* ranking = nullptr;
    double tasks = 1;                          // of this unit's size that are to be done first or with it
    std::vector<const farm::v1::Bank*> banks;  // that the unit reads
    bool ahead = false;                        // frames that follow identities which are still computed
  };
  std::optional<Question> Ask(const Job& job, const Unit& unit);
  std::vector<Candidate> CandidatesFor(const Question& question);
  // When all of the question's tasks would be done, spread best over all devices.
  double LevelOf(const Question& question);
  double now_s() const { return now_s_; }

 private:
  // Grants one group of the job; false if there is none that should go now.
  bool GrantOne(const Job& job);
  bool GrantUnit(const Job& job, const Unit& unit);
  // Whether another job's device is at the same identity and will have it before the first candidate would.
  bool ComesAsPack(const Job& job, const Unit& unit, const Candidate& first) const;
  // Tasks of the unit that the candidate would do by the level, 0 where others are sooner done.
  double ShareOf(const Question& question, const Candidate& candidate, double* level_s);
  // Notes that the job is held back from the best device with room. True where it was granted nothing for as long as
  // that one takes to finish a task: so waiting for a better place at most doubles the time that the first one offered.
  bool HeldLongEnough(const Question& question, const Candidate& candidate);
  std::vector<uint32_t> Cut(const Job& job, const Unit& unit, const Node& node, size_t most) const;
  bool Grant(const Question& question, const Candidate& candidate, std::vector<uint32_t> numbers, Placement placement);
  void SendGrant(const Question& question, const Candidate& candidate, const std::vector<uint32_t>& numbers,
                 const farm::v1::MemoryPlan& plan, farm::v1::Work work, Placement placement);
  // What a group may take: less where several jobs want the device.
  double GroupSeconds() const;
  double BankSeconds(const Question& question, Seat seat) const;
  // Asks busy devices to give back frames that they have not begun, where an idle one would finish them sooner.
  void Steal();
  void StealFrom(const Token& token);
  // ---- wavefront.cc
  // Idle devices begin with frames whose identities are still computed, where that is sooner than waiting.
  void GoAhead();
  bool GrantAhead(const Job& job, uint32_t set);
  // When the identities that a set still lacks will be there; negative where one of them has not begun.
  double WritersEnd(const Job& job, uint32_t set) const;
  // Idle devices compared for one frame.
  static constexpr size_t kMostAheadCandidates = 16;
  // Whether some other node may take a task that aborted an engine on these.
  bool OthersMayTake(const std::set<uint32_t>& aborted_on, const Job& job) const;

  Farm::Parts& farm_;
  double now_s_ = 0;
  std::set<Seat> promised_;  // idle ones for which frames were asked back in this round
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_SCHEDULING_ROUND_H_
