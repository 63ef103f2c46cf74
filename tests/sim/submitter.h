// The people of the simulated farm: they submit stories and ask again with the same key until they are answered, as
// storyctl does, sometimes twice at once, and cancel some.
#ifndef STORYFARM_TESTS_SIM_SUBMITTER_H_
#define STORYFARM_TESTS_SIM_SUBMITTER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/sim/coordinator.h"
#include "tests/sim/dice.h"
#include "tests/sim/world.h"

namespace storyfarm::sim {

class Submitter {
 public:
  // `serving`: a coordinator that answers, or null.
  Submitter(World* world, std::function<Coordinator*()> serving);

  // Begins with the first story; the others follow through the first phase.
  void Start();
  // Whether every story was accepted.
  bool Done() const { return accepted_ == jobs_.size(); }
  // Tasks of all stories.
  uint64_t tasks() const { return tasks_; }

 private:
  struct Job {
    std::string key;
    farm::v1::JobSpec spec;
    bool accepted = false;
    int64_t cancel_after_ms = -1;  // below 0: not at all
    uint32_t tries = 0;
  };

  void Submit(size_t index);
  void Answered(size_t index, const coordinator::Reply& reply);
  void Cancel(const std::string& job_id);

  World& world_;
  const std::function<Coordinator*()> serving_;
  Dice dice_;
  std::vector<Job> jobs_;
  size_t accepted_ = 0;
  uint64_t tasks_ = 0;
};

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_SUBMITTER_H_
