// The parts of a bank on their way from files to where they are used, ahead of their use.
//
//   files --reading threads--> slots of the ring --Next--> the pass, one load after the other, in the order given
//                                    ^                          |
//                                    +-------- Release ---------+
//
// A slot is filled again once the pass has released it: so much is in memory and no more. What can't be read surfaces
// at the load that needed it, and nothing behind it is read. No torch here, so that the sanitizers see all threads.
#ifndef STORYFARM_PIPELINE_IDENTITY_BANK_RING_H_
#define STORYFARM_PIPELINE_IDENTITY_BANK_RING_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/base/env.h"
#include "pipeline/identity/bank_file.h"

namespace storyfarm::identity {

// Where step `step`'s file lies; empty: nobody keeps anything of that step. Called on a reading thread, steps
// ascending, one call at a time. It may wait for a file that is still being made elsewhere: then whoever made it wait
// must let it go before the ring is destroyed.
using ChunkPath = std::function<absl::StatusOr<std::string>(int64_t step)>;

// One layer of a step: `halves` guidance halves from `first_half`.
struct BankLoad {
  int64_t step = 0, layer = 0, first_half = 0, halves = 1;
  friend bool operator==(const BankLoad&, const BankLoad&) = default;
};

// A place that loads are read into, one at a time. Both calls come from a reading thread, between the release of what
// was there and the next load's arrival.
class LoadSlot {
 public:
  virtual ~LoadSlot() = default;
  // Host bytes to fill, kBankAlignmentBytes aligned. Waits until nothing reads them any more.
  virtual absl::StatusOr<std::span<std::byte>> Prepare(uint64_t size_bytes) = 0;
  // They are filled.
  virtual absl::Status Send(uint64_t size_bytes) = 0;
};

class BankRing {
 public:
  struct Options {
    BankOrigin origin;
    int64_t halves = 2;  // that the pass computes: a bank must have as many
    ChunkPath path_of;
    std::vector<BankLoad> loads;           // in the order in which Next is asked for them
    std::vector<std::string> layer_names;  // for messages, by layer
    int threads = 1;                       // that read, each one load at a time
  };
  struct Loaded {
    size_t slot = 0;
    PartShape shape;  // of each half: half h begins at h x shape.Bytes()
  };

  // Begins to read at once. `env` and `slots` (at least one) outlive this.
  BankRing(base::Env& env, Options options, std::vector<LoadSlot*> slots);
  // Ends the reading and waits for it.
  ~BankRing();

  // Releases what Next gave before, and waits for the next of `loads`, which `wanted` must be. NOT_FOUND, DATA_LOSS and
  // INVALID_ARGUMENT as BankStepFile; INVALID_ARGUMENT too where the file lacks the layer. An error is final.
  absl::StatusOr<Loaded> Next(const BankLoad& wanted);
  // Lets the slot that Next gave be filled again.
  void Release();

 private:
  void ReadAhead();
  // The number of the next load to read and its file; nullopt: there is no more to do.
  struct Claim {
    size_t number = 0;
    absl::StatusOr<std::shared_ptr<const BankStepFile>> file;
  };
  std::optional<Claim> ClaimNext();
  absl::StatusOr<std::shared_ptr<const BankStepFile>> FileOf(int64_t step);
  absl::StatusOr<Loaded> Load(const Claim& claim);
  absl::Status Lacks(const BankLoad& load, const std::string& path) const;
  std::string PlaceOf(const BankLoad& load) const;

  base::Env& env_;
  const Options options_;
  const std::vector<LoadSlot*> slots_;

  // Held from a claim until its file is open, so that files are opened in the order of their steps.
  std::mutex claiming_;
  int64_t open_step_ = -1;  // of open_file_; guarded by claiming_
  std::shared_ptr<const BankStepFile> open_file_;

  std::mutex mutex_;  // guards the rest
  std::condition_variable changed_;
  bool stopping_ = false;
  size_t claimed_ = 0;   // loads that a thread has taken
  size_t given_ = 0;     // loads that Next gave
  size_t released_ = 0;  // loads whose slots are free again: given_ or one less
  std::vector<std::optional<Loaded>> arrived_;  // by slot
  std::optional<size_t> failed_at_;             // the first load that failed
  absl::Status failure_;
  std::vector<std::thread> threads_;
};

}  // namespace storyfarm::identity

#endif  // STORYFARM_PIPELINE_IDENTITY_BANK_RING_H_
