#include "tests/sim/rule.h"

namespace storyfarm::sim {

const char* SentenceOf(Rule rule) {
  switch (rule) {
    case Rule::kJobKept:
      return "an accepted job is never forgotten";
    case Rule::kOneJobAKey:
      return "one idempotency key makes one job";
    case Rule::kResultOnce:
      return "a task's accepted result is set once and never changes";
    case Rule::kTokenCurrent:
      return "no result is taken whose token has been replaced";
    case Rule::kTokenFresh:
      return "no token is given out twice, and no task to two at a time";
    case Rule::kBlobsFirst:
      return "a result is taken only when its blobs are durable";
    case Rule::kDurableFirst:
      return "nothing leaves the coordinator before its record is durable";
    case Rule::kDeposedSilent:
      return "a coordinator that was deposed says nothing";
    case Rule::kStreamCurrent:
      return "a stream that was replaced is not believed";
    case Rule::kLeaseEnds:
      return "a grant without news for a lease comes back";
    case Rule::kDiskFirst:
      return "a result is on the node's disk before it is sent";
    case Rule::kOutboxKept:
      return "a result leaves the node's disk only when it was taken or nobody wants it";
    case Rule::kOnlyUnstartedMoves:
      return "only tasks that have not begun are given back";
    case Rule::kMemoryWithinPlan:
      return "no device holds more than its plan allows, no plan more than is free";
    case Rule::kNeedKept:
      return "what running out of memory taught is true, and every later plan counts it in";
    case Rule::kQueuesBounded:
      return "every queue stays within its limit";
    case Rule::kEndTold:
      return "each end of a job is told outside, and no more once that is settled";
    case Rule::kHeldBack:
      return "nothing is granted while the disk of the blobs is nearly full";
    case Rule::kReplaySame:
      return "replaying the log gives the same bytes of state";
    case Rule::kFinishes:
      return "once faults end, all finishes within the stated bound";
  }
  return "";
}

}  // namespace storyfarm::sim
