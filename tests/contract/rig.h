// A store for the contract's tests: how to open it, and what may befall it.
#ifndef STORYFARM_TESTS_CONTRACT_RIG_H_
#define STORYFARM_TESTS_CONTRACT_RIG_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/store/store.h"

namespace storyfarm::coordinator {

enum class Fault { kKilled, kPaused, kOutOfMemory, kDiskFull, kHalfWritten };
inline constexpr Fault kFaults[] = {Fault::kKilled, Fault::kPaused, Fault::kOutOfMemory, Fault::kDiskFull,
                                    Fault::kHalfWritten};
const char* NameOf(Fault fault);

// A disk with one farm on it.
class Rig {
 public:
  virtual ~Rig() = default;
  virtual std::unique_ptr<Store> Open(const std::string& name = "") = 0;
  // The next write arrives, its answer does not.
  virtual std::unique_ptr<Store> OpenThatLosesAnAnswer() = 0;
  // Empty, or why this machine can't have the fault.
  virtual std::string Inflict(Fault fault) = 0;
  virtual void Heal(Fault fault) = 0;
  // The last thing that was acknowledged is cut off, as by a disk that lied; false where the store has no file.
  virtual bool CutTail() = 0;
};

// `store`: "memory" or "redis"; made so that this fault can befall it.
std::unique_ptr<Rig> MakeRig(const std::string& store, std::optional<Fault> fault = std::nullopt);

farm::v1::RecordBatch Batch(uint64_t sequence, const std::string& text = "x");

struct Loaded {
  std::vector<uint64_t> sequences;
  std::vector<std::string> texts;
  std::optional<Snapshot> snapshot;
  uint64_t end = 0;
};
// Everything in it; fails the test where it does not load.
Loaded LoadAll(Store& store);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_TESTS_CONTRACT_RIG_H_
