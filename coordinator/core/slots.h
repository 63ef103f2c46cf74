// Where the tasks of a job stand, in compact arrays.
#ifndef STORYFARM_COORDINATOR_CORE_SLOTS_H_
#define STORYFARM_COORDINATOR_CORE_SLOTS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "coordinator/core/token.h"
#include "farm/v1/job.pb.h"

namespace storyfarm::coordinator {

// Where one task stands.
struct Slot {
  Token token;                 // of the last grant
  uint32_t node = 0;           // position in Job::nodes() + 1 of the last grant's node; 0: never granted
  uint32_t outcome = 0;        // of a frame: position of its result among the job's + 1; 0: none
  uint16_t attempts = 0;       // grants, saturating
  uint8_t state = 0;           // farm::v1::TaskState
  uint8_t own_tries = 0;       // faults that count against the task, saturating
  uint8_t machine_faults = 0;  // OUT_OF_MEMORY, DISK_FULL and BLOB_UNAVAILABLE, saturating
  uint8_t device = 0;          // of the last grant
  bool alone = false;          // goes in a group of its own: its last group aborted an engine
  bool ahead = false;          // of a frame: last granted while an identity that it reads was still computed

  bool operator==(const Slot&) const = default;
};
static_assert(sizeof(Slot) == 32);

// The slots of all tasks of one kind, by number. Tasks that were never granted differ by their state alone: they take a
// byte each, and slots of their own only come with the first grant among kSlotsAChunk neighbours.
class Slots {
 public:
  static constexpr uint32_t kSlotsAChunk = 64;  // as many as a group has frames at most

  void Resize(uint32_t count, farm::v1::TaskState state) {
    states_.assign(count, static_cast<uint8_t>(state));
    chunks_.clear();
    chunks_.resize((count + kSlotsAChunk - 1) / kSlotsAChunk);
  }
  uint32_t size() const { return static_cast<uint32_t>(states_.size()); }
  uint8_t state(uint32_t number) const { return states_[number]; }
  void set_state(uint32_t number, farm::v1::TaskState state) {
    states_[number] = static_cast<uint8_t>(state);
    if (Chunk* chunk = chunks_[number / kSlotsAChunk].get()) (*chunk)[number % kSlotsAChunk].state = states_[number];
  }
  // Valid until something of the job changes.
  const Slot& operator[](uint32_t number) const {
    const Chunk* chunk = chunks_[number / kSlotsAChunk].get();
    return chunk == nullptr ? kNeverGranted[states_[number]] : (*chunk)[number % kSlotsAChunk];
  }
  // For all but its state.
  Slot& Mutable(uint32_t number) {
    std::unique_ptr<Chunk>& chunk = chunks_[number / kSlotsAChunk];
    if (chunk == nullptr) {
      chunk = std::make_unique<Chunk>();
      const uint32_t first = number / kSlotsAChunk * kSlotsAChunk;
      for (uint32_t i = first; i < size() && i < first + kSlotsAChunk; ++i) (*chunk)[i - first].state = states_[i];
    }
    return (*chunk)[number % kSlotsAChunk];
  }
  void Put(uint32_t number, const Slot& slot) {
    states_[number] = slot.state;
    if (chunks_[number / kSlotsAChunk] == nullptr && slot == kNeverGranted[slot.state]) return;
    Mutable(number) = slot;
  }

 private:
  using Chunk = std::array<Slot, kSlotsAChunk>;
  static constexpr std::array<Slot, farm::v1::TaskState_ARRAYSIZE> kNeverGranted = [] {
    std::array<Slot, farm::v1::TaskState_ARRAYSIZE> slots{};
    for (size_t state = 0; state < slots.size(); ++state) slots[state].state = static_cast<uint8_t>(state);
    return slots;
  }();

  std::vector<uint8_t> states_;
  std::vector<std::unique_ptr<Chunk>> chunks_;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_SLOTS_H_
