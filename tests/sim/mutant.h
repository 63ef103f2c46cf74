// Planted bugs, one at least for each rule: the test of the test. The product's code is not touched: a mutant is the
// simulated process around it being wrong at a seam - what it hands in, what it lets out, what it writes, what it
// replays - so that the whole behaves as if the core had that bug.
#ifndef STORYFARM_TESTS_SIM_MUTANT_H_
#define STORYFARM_TESTS_SIM_MUTANT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/fault.h"
#include "tests/sim/rule.h"

namespace storyfarm::sim {

enum class Mutant : uint8_t {
  kNone,
  // The coordinator's order of things.
  kSendBeforeAppend,
  kReplyBeforeAppend,
  kFencedAppendIgnored,
  kUnknownAppendBelieved,
  kUnknownAppendSentAsNew,
  kDeposedSpeaks,
  kArchiveNotStored,
  kEndToldBeforeAppend,
  kEndNotTold,
  kSettledEndToldAgain,
  kSnapshotOfTheUnwritten,
  // What it believes.
  kAttemptNotChecked,
  kStaleStreamBelieved,
  kWhatIsNotListedRenewed,
  kBlobsNotChecked,
  kLeasesNeverEnd,
  kKeyNotCompared,
  kLowDiskIgnored,
  // What it writes and replays.
  kResultAltered,
  kTokensRepeat,
  kReplayStopsShort,
  kGrantsForgottenOnReplay,
  kJobForgottenOnReplay,
  kNeedForgottenOnReplay,
  kNeedNotCounted,
  // The worker's.
  kOutboxClearedBeforeAck,
  kSentBeforePersisted,
  kStartedTaskGivenBack,
  kMemoryNotMeasured,
  kGroupsPileUp,
  kSilentEngineRenewed,
};

struct MutantInfo {
  Mutant mutant = Mutant::kNone;
  const char* name = "";           // as --mutant takes it
  std::vector<Rule> breaks;        // any of these catches it
  std::vector<FaultKind> favours;  // faults that show it: drawn more often, so that few seeds suffice
};

// All but kNone.
const std::vector<MutantInfo>& AllMutants();
const MutantInfo* InfoOf(Mutant mutant);  // null of kNone
std::optional<Mutant> MutantNamed(const std::string& name);

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_MUTANT_H_
