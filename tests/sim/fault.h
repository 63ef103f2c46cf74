// What goes wrong in a run: a list, drawn by seed. The list is all that a run's trouble comes from, so a failing run is
// shrunk by leaving faults out (shrink.h).
#ifndef STORYFARM_TESTS_SIM_FAULT_H_
#define STORYFARM_TESTS_SIM_FAULT_H_

#include <cstdint>
#include <string>

namespace storyfarm::sim {

enum class FaultKind : uint8_t {
  // Nodes. Restarted after `size` ms; of a freeze, thawed after it.
  kKillNode,
  kCutPower,       // killed, and nobody hears of it: no connection is closed
  kLoseNode,       // killed with its disk: comes back empty, under another id
  kFreezeNode,     // stops, its clock goes on (SIGSTOP)
  kSuspendNode,    // stops, its clock as well (a closed lid)
  kDrainNode,      // told to leave; comes back after it left
  kJumpNodeClock,  // its monotonic clock leaps ahead by `size` ms
  kUseMachine,     // its owner wants it for `size` ms
  // Its engines.
  kAbortEngine,   // the next run ends with the engine
  kHangEngine,    // the next run says nothing any more
  kStarveEngine,  // the next run is out of memory
  kSpoilOutput,   // the next run's picture is not finite
  kTakeMemory,    // others take most of the device's memory for `size` ms
  kKillEngine,    // ends at once, whatever it does
  // Its disk.
  kFillDisk,     // the next `size` writes of the outbox fail
  kCorruptBlob,  // a finished picture in the cache is damaged
  kBreakUpload,  // the next `size` uploads arrive damaged
  // Its connection.
  kPartition,      // nothing passes for `size` ms
  kPartitionUp,    // nothing from the node passes
  kPartitionDown,  // nothing to the node passes
  kDropUp,         // the next message
  kDropDown,
  kDoubleUp,
  kDoubleDown,
  kDelayUp,  // by `size` ms, and what follows on this stream
  kDelayDown,
  kReorderUp,  // it comes after those that follow within `size` ms
  kReorderDown,
  // The coordinator. Restarted after `size` ms.
  kKillCoordinator,
  kKillBeforeAppend,      // at its next append, before the store has it
  kKillAfterAppend,       // at its next append, when the store has it and it does not know
  kKillWhileSending,      // at its next sending, after half of what could leave
  kFreezeCoordinator,     // thawed after `size` ms; beyond three seconds the other one takes over
  kCutStore,              // it can't reach the store for `size` ms; likewise
  kJumpCoordinatorClock,  // its wall clock goes to and fro by `size` ms, its monotonic clock leaps by a tenth of it
  // Its store: the next `size` writes.
  kLoseAppendRequest,
  kLoseAppendAnswer,
  kRefuseAppend,
  kSlowStore,  // takes `size` ms for the next one
  kLowDisk,    // the disk of its blobs is nearly full for `size` ms
};
inline constexpr int kFaultKindCount = static_cast<int>(FaultKind::kLowDisk) + 1;

struct Fault {
  int64_t at_ms = 0;
  FaultKind kind = FaultKind::kKillNode;
  uint32_t target = 0;  // node; of kills and freezes: among those that hold a lease then, if there are any
  int64_t size = 0;
};

// "12.250 s  kill-node 3 (800)".
std::string ToString(const Fault& fault);
const char* NameOf(FaultKind kind);

}  // namespace storyfarm::sim

#endif  // STORYFARM_TESTS_SIM_FAULT_H_
