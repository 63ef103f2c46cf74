// The least makespan that any scheduler could reach, one that knows the future included.
//
// A machine that takes t seconds a frame, is there from u to v (then finishes what it began, at most a pass of 4
// frames) and needs s seconds before its first frame can have finished at most
//
//   n(T) = floor((min(T, v + 4 t) - max(u + s, a)) / t)
//
// whole frames by the time T, of work that did not exist before a. Every schedule that is done by T therefore satisfies
// for every set of work W whose parts exist from a on and need at least m bytes of memory
//
//   sum over the machines with m bytes of n(T)  >=  frames in W.                                              (1)
//
// The least T that satisfies (1) bounds the makespan from below; so does the largest of these over any choice of W. The
// choices taken here, for each arrival time a and each amount of memory m, from the stories that arrive at a or later
// and need at least m:
//   - all of their work, with an identity pass of n frames as n frames, as that is what it takes;
//   - their frames without the passes, from the earliest time on at which a pass of such a story can be over (or from
//     the arrival of the first such story that has none): no frame begins before its identities are done.
// And a story's own frames that read an identity, from the time on at which the fastest machine can have done its
// longest pass.
#ifndef STORYFARM_TESTS_SIM_SCHEDULE_BOUND_H_
#define STORYFARM_TESTS_SIM_SCHEDULE_BOUND_H_

#include "tests/sim/schedule/scenario.h"

namespace storyfarm::schedule {

// Seconds from 0 to the end of the last frame.
double LowerBound(const Scenario& scenario);

// Seconds from its arrival that the story takes at the least, alone in the farm.
double LowerBoundOf(const Scenario& scenario, const Story& story);

}  // namespace storyfarm::schedule

#endif  // STORYFARM_TESTS_SIM_SCHEDULE_BOUND_H_
