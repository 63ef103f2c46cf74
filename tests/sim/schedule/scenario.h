// A farm and its work for one simulated day, drawn from a seed: machines that differ 100 times in speed and 10 times in
// memory, come and go; stories of different sizes that arrive one after the other.
#ifndef STORYFARM_TESTS_SIM_SCHEDULE_SCENARIO_H_
#define STORYFARM_TESTS_SIM_SCHEDULE_SCENARIO_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "farm/v1/job.pb.h"

namespace storyfarm::schedule {

inline constexpr double kForever = std::numeric_limits<double>::infinity();

// A time in which a machine is there. At its end it drains: what it has begun it finishes.
struct Window {
  double from_s = 0;
  double to_s = kForever;
};

struct Machine {
  std::string id;
  double frame_s = 1;    // what a frame takes here
  double claimed_s = 1;  // what its reported speed predicts, off by up to a quarter
  uint64_t memory_bytes = 0;
  double setup_s = 0;           // until its first frame can begin: fetching the model where it lacks it, loading it
  bool has_model = true;        // in its cache
  std::vector<Window> windows;  // ascending, apart
};

struct Story {
  double arrival_s = 0;
  farm::v1::JobSpec spec;     // without pages
  uint64_t needed_bytes = 0;  // what its groups take of a machine
  uint32_t frames = 0;        // that are no identity's
  bool small = false;
};

struct Scenario {
  uint64_t seed = 0;
  std::vector<Machine> machines;
  std::vector<Story> stories;  // by arrival
};

// An identity pass of n frames takes the time of n frames.
inline constexpr uint32_t kMostPassFrames = 4;
uint32_t IdentityFrames(const Story& story, uint32_t identity);

struct Shape {
  uint32_t machines_least = 4;
  uint32_t machines_most = 48;
  double frames_a_machine_least = 20;  // on average over the machines
  double frames_a_machine_most = 60;
  uint32_t stories_most = 8;
  // Stories of fewer frames than machines, that arrive while the others run; 0: none.
  uint32_t small_stories = 0;
};

// At least one machine, the fastest with the most memory, is always there, so that everything can be done.
Scenario Draw(uint64_t seed, const Shape& shape);

}  // namespace storyfarm::schedule

#endif  // STORYFARM_TESTS_SIM_SCHEDULE_SCENARIO_H_
