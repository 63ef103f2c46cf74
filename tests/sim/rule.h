// What must hold, whatever breaks: the rules that every run is judged by.
#ifndef STORYFARM_TESTS_SIM_RULE_H_
#define STORYFARM_TESTS_SIM_RULE_H_

#include <cstdint>
#include <string>

namespace storyfarm::sim {

enum class Rule : uint8_t {
  kJobKept,             // an accepted job is never forgotten
  kOneJobAKey,          // one idempotency key makes one job
  kResultOnce,          // a task's accepted result is set once and never changes
  kTokenCurrent,        // no result is taken whose token has been replaced
  kTokenFresh,          // no token is ever given out twice
  kBlobsFirst,          // a result is taken only when its blobs are durable
  kDurableFirst,        // nothing leaves the coordinator before the record that it depends on is durable
  kDeposedSilent,       // a coordinator that was deposed says nothing
  kStreamCurrent,       // a stream that was replaced is not believed
  kLeaseEnds,           // a grant without news for a lease comes back
  kDiskFirst,           // a result is on the node's disk before it is sent
  kOutboxKept,          // a result leaves the node's disk only when it was taken or nobody wants it
  kOnlyUnstartedMoves,  // only tasks that have not begun are given back
  kMemoryWithinPlan,    // no device holds more than its plan allows, and no plan more than the device has free
  kNeedKept,            // what running out of memory taught is true, and every later plan counts it in
  kQueuesBounded,       // every queue stays within its limit
  kEndTold,             // each end of a job is told outside, and no more once that is settled
  kHeldBack,            // nothing is granted while the disk of the blobs is nearly full
  kReplaySame,          // replaying the log gives the same bytes of state
  kFinishes,            // once faults end, all finishes within the stated bound
};
inline constexpr int kRuleCount = static_cast<int>(Rule::kFinishes) + 1;

// The rule as a sentence.
const char* SentenceOf(Rule rule);

struct Violation {
  Rule rule = Rule::kJobKept;
  int64_t at_ms = 0;
  std::string what;
};

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_RULE_H_
