#include "tests/sim/mutant.h"

namespace storyfarm::sim {

const std::vector<MutantInfo>& AllMutants() {
  static const auto* const mutants = new std::vector<MutantInfo>{
      {Mutant::kSendBeforeAppend, "send-before-append", {Rule::kDurableFirst}},
      {Mutant::kReplyBeforeAppend, "reply-before-append", {Rule::kDurableFirst}},
      {Mutant::kFencedAppendIgnored,
       "fenced-append-ignored",
       {Rule::kDurableFirst, Rule::kDeposedSilent},
       {FaultKind::kFreezeCoordinator, FaultKind::kCutStore}},
      {Mutant::kUnknownAppendBelieved,
       "unknown-append-believed",
       {Rule::kDurableFirst, Rule::kReplaySame},
       {FaultKind::kLoseAppendRequest}},
      {Mutant::kUnknownAppendSentAsNew,
       "unknown-append-sent-as-new",
       {Rule::kTokenFresh, Rule::kResultOnce, Rule::kOneJobAKey, Rule::kReplaySame},
       {FaultKind::kLoseAppendAnswer}},
      {Mutant::kDeposedSpeaks, "deposed-speaks", {Rule::kDeposedSilent}, {FaultKind::kFreezeCoordinator}},
      {Mutant::kArchiveNotStored, "archive-not-stored", {Rule::kJobKept}},
      {Mutant::kEndToldBeforeAppend, "end-told-before-append", {Rule::kDurableFirst}},
      {Mutant::kEndNotTold, "end-not-told", {Rule::kEndTold}},
      {Mutant::kSettledEndToldAgain, "settled-end-told-again", {Rule::kEndTold}},
      {Mutant::kSnapshotOfTheUnwritten,
       "snapshot-of-the-unwritten",
       {Rule::kReplaySame},
       {FaultKind::kKillCoordinator, FaultKind::kSlowStore}},
      {Mutant::kAttemptNotChecked,
       "attempt-not-checked",
       {Rule::kTokenCurrent},
       {FaultKind::kFreezeNode, FaultKind::kPartition}},
      {Mutant::kStaleStreamBelieved,
       "stale-stream-believed",
       {Rule::kStreamCurrent, Rule::kLeaseEnds},
       {FaultKind::kDelayUp, FaultKind::kSlowStore, FaultKind::kCutPower}},
      {Mutant::kWhatIsNotListedRenewed,
       "what-is-not-listed-renewed",
       {Rule::kLeaseEnds, Rule::kFinishes},
       {FaultKind::kDropDown, FaultKind::kDropUp}},
      {Mutant::kBlobsNotChecked, "blobs-not-checked", {Rule::kBlobsFirst}, {FaultKind::kBreakUpload}},
      {Mutant::kLeasesNeverEnd, "leases-never-end", {Rule::kLeaseEnds}, {FaultKind::kPartition}},
      {Mutant::kLowDiskIgnored, "low-disk-ignored", {Rule::kHeldBack}, {FaultKind::kLowDisk}},
      {Mutant::kKeyNotCompared, "key-not-compared", {Rule::kOneJobAKey}, {FaultKind::kFreezeCoordinator}},
      {Mutant::kResultAltered, "result-altered", {Rule::kReplaySame}},
      {Mutant::kTokensRepeat, "tokens-repeat", {Rule::kTokenFresh}, {FaultKind::kKillCoordinator}},
      {Mutant::kReplayStopsShort,
       "replay-stops-short",
       {Rule::kReplaySame, Rule::kJobKept},
       {FaultKind::kKillCoordinator}},
      {Mutant::kGrantsForgottenOnReplay,
       "grants-forgotten-on-replay",
       {Rule::kReplaySame},
       {FaultKind::kKillCoordinator}},
      {Mutant::kJobForgottenOnReplay,
       "job-forgotten-on-replay",
       {Rule::kJobKept, Rule::kReplaySame},
       {FaultKind::kKillAfterAppend}},
      {Mutant::kNeedForgottenOnReplay, "need-forgotten-on-replay", {Rule::kReplaySame}, {FaultKind::kKillCoordinator}},
      {Mutant::kNeedNotCounted, "need-not-counted", {Rule::kNeedKept}},
      {Mutant::kOutboxClearedBeforeAck, "outbox-cleared-before-ack", {Rule::kOutboxKept}},
      {Mutant::kSentBeforePersisted, "sent-before-persisted", {Rule::kDiskFirst}},
      {Mutant::kStartedTaskGivenBack, "started-task-given-back", {Rule::kOnlyUnstartedMoves}},
      {Mutant::kMemoryNotMeasured, "memory-not-measured", {Rule::kMemoryWithinPlan}, {FaultKind::kTakeMemory}},
      {Mutant::kGroupsPileUp, "groups-pile-up", {Rule::kQueuesBounded}},
      {Mutant::kSilentEngineRenewed, "silent-engine-renewed", {Rule::kFinishes}, {FaultKind::kHangEngine}},
  };
  return *mutants;
}

const MutantInfo* InfoOf(Mutant mutant) {
  for (const MutantInfo& info : AllMutants()) {
    if (info.mutant == mutant) return &info;
  }
  return nullptr;
}

std::optional<Mutant> MutantNamed(const std::string& name) {
  for (const MutantInfo& info : AllMutants()) {
    if (name == info.name) return info.mutant;
  }
  return std::nullopt;
}

}  // namespace storyfarm::sim
