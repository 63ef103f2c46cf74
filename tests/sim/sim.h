// A whole farm in one thread, by seed: the real coordinator core (Farm::Step, Apply), the real worker session with its
// outbox, the real store in memory, and around them a simulated network, disks, clocks, engines and people, all of
// which break. For the program farm_sim and for tests.
//
//    Submitter ──submit, cancel──> Coordinator ──records──> MemoryStore (lost, refused, unknown, fenced appends)
//                                   │ Farm │ ^                  │
//                   durable first,  │      │ │                  └──> truth: every record, folded from the first on
//                   then messages   v      │ │
//                                  Network (cut, drop, double, delay, reorder)
//                                   │      ^ │
//                                   v      │ │
//                              Node: Session ──> Disk (outbox, cache), Engine (aborts, hangs, out of memory)
//
//    Judge: hears of all of it at the seams, keeps ledgers of its own, holds them against the rules (rule.h)
//
// A run has two phases, as FoundationDB's: first faults (fault.h, a list drawn by seed), with the safety rules checked
// at every step; then quiet, in which all must finish within Outcome::bound_ms. At the end, and at every start of a
// coordinator, replaying the log must give the same bytes of state.
//
// A failing run is shrunk: faults are left out as long as the same rule breaks (shrink.h). Planted bugs (mutant.h) show
// that each rule is alive.
#ifndef STORYFARM_TESTS_SIM_SIM_H_
#define STORYFARM_TESTS_SIM_SIM_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/fault.h"
#include "tests/sim/mutant.h"
#include "tests/sim/rule.h"

namespace storyfarm::sim {

struct Options {
  uint64_t seed = 1;
  uint32_t nodes = 6;
  uint32_t jobs = 5;
  int64_t fault_ms = 120'000;  // simulated, of the first phase
  // Nodes die all the time and little else happens: for measuring how many failures a minute are tried.
  bool storm = false;
  Mutant mutant = Mutant::kNone;
  bool trace = false;
};

// Over one run.
struct Counts {
  uint64_t node_failures = 0;   // killed, cut off from power, or frozen beyond its lease
  uint64_t holders_failed = 0;  // of these, nodes that held a lease
  uint64_t coordinator_starts = 0;
  uint64_t steps = 0;   // of all Farms
  uint64_t events = 0;  // of all Sessions
  uint64_t records = 0;
  uint64_t results = 0;  // taken
  uint64_t pack_hits = 0;
  uint64_t faults = 0;

  void Add(const Counts& other);
};

struct Outcome {
  std::optional<Violation> violation;
  Counts counts;
  int64_t quiet_ms = 0;            // that it took to finish, once faults had ended
  int64_t bound_ms = 0;            // that it may take
  std::vector<std::string> trace;  // where asked for; its last kTraceLines
};
inline constexpr size_t kTraceLines = 5000;

// The faults of a run with these options, by time. Each seed leaves some kinds out and draws others more often, so that
// rare mixtures are tried as well (swarm testing: Groce and others 2012).
std::vector<Fault> DrawFaults(const Options& options);

// The same options and faults give the same outcome, to the last byte.
Outcome Simulate(const Options& options, const std::vector<Fault>& faults);

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_SIM_H_
