// Jobs with something ready, in the order in which they are asked for it: the highest priority first; among equals the
// one for which the devices that it holds do the least work a second, then the oldest. So a job that only few devices
// can take gets these before one that has the others.
#ifndef STORYFARM_COORDINATOR_CORE_JOB_QUEUE_H_
#define STORYFARM_COORDINATOR_CORE_JOB_QUEUE_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "coordinator/core/job.h"

namespace storyfarm::coordinator {

struct Turn {
  int32_t rank = 0;  // the priority, negated
  int64_t held_rate = 0;
  uint64_t ordinal = 0;
  auto operator<=>(const Turn&) const = default;  // NOLINT(modernize-use-nullptr): the check misreads <=>
};

class JobQueue {
 public:
  // After anything of the job changed. A job that is not live, is paused or has nothing ready is not in the queue.
  void Update(const Job& job, bool live, int64_t held_rate);

  const std::set<Turn>& turns() const { return turns_; }
  size_t size() const { return turns_.size(); }

  // How many of its own frames' worth of work the farm does until it has done this job's: that of higher priorities
  // and, of equals, as much as the job itself has, since they share the farm. At least its own.
  double Backlog(const Job& job);

  // The same, computed anew for one who only looks.
  double ExactBacklog(const Job& job) const;

  // What one frame of a job is taken to weigh against those of others: denoised pixels.
  static double FrameWork(const Job& job);
  // Frames' worth of an identity task.
  static double IdentityFrames(const Job& job, uint32_t identity);

 private:
  struct Entry {
    Turn turn;
    double work = 0;
  };
  // Works of one priority, ascending, with their sums.
  struct Level {
    std::vector<double> works;
    std::vector<double> sums;  // sums[i]: of the first i
  };
  static double ReadyWork(const Job& job);
  void Sum();

  std::set<Turn> turns_;
  std::map<uint64_t, Entry> entries_;  // by ordinal
  std::map<int32_t, Level> levels_;    // by rank
  size_t changes_ = 0;                 // since levels_ was made
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_JOB_QUEUE_H_
