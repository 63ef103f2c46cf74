// A bank on its way to disk beside the run that makes it: parts go in as layers are computed, files come out step by
// step. Between them waits a bounded queue, so that a slow disk slows the run and never fills memory. No torch here.
#ifndef STORYFARM_PIPELINE_IDENTITY_BANK_WRITER_H_
#define STORYFARM_PIPELINE_IDENTITY_BANK_WRITER_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "pipeline/base/env.h"
#include "pipeline/identity/bank_file.h"

namespace storyfarm::identity {

struct ComputedPart {
  int64_t layer = 0, half = 0;
  PartShape shape;
  // Its shape.Bytes() in host memory, once they are there. Called once, by a writing thread, and kept until they are
  // written.
  std::function<absl::StatusOr<std::span<const std::byte>>()> bytes;
};
// A thread checks and writes 1 to 1.5 GB/s, a fast card makes as much; they write to one file.
inline constexpr int kBankWriters = 3;
// Step files whose bytes are written, on their way to the disk itself: a disk that is about as fast as the run does not
// hold it up.
inline constexpr size_t kUnsyncedSteps = 4;

// One thread puts parts in and takes steps out. Errors (RESOURCE_EXHAUSTED: the disk is full) are final: every later
// call returns the first one.
class BankWriter {
 public:
  // Files are "bank-0000.bank" and so on in `folder`, which exists. `env` outlives this. As many bytes may wait to be
  // written, beside the parts that are, as `queue_parts` of the largest parts have: up blocks compute all of a step's
  // parts in half of its time, which a disk need not keep up with. Two or more, or none could be put while one is
  // packed. Not `durable`: files may be lost with the machine's power.
  BankWriter(base::Env& env, std::string folder, BankOrigin origin, int64_t halves, BankElement element,
             uint64_t queue_parts, bool durable = true);
  // What TakeStored has not been told is thrown away where it is not stored yet, without a trace.
  ~BankWriter();

  // Of the step that is being computed. Waits while the queue is full.
  absl::Status Put(ComputedPart part);
  // The step has all its parts. Steps are numbered by their ends, from 0.
  absl::Status EndStep();
  struct StoredStep {
    int step = 0;
    std::string path;  // empty: the step had no part
  };
  // Steps stored since the last call, ascending. `wait`: until all whose end was told are stored.
  absl::StatusOr<std::vector<StoredStep>> TakeStored(bool wait);

 private:
  struct Item {
    bool ends_step = false;
    ComputedPart part;
  };
  // A step on its way to the disk.
  struct Step {
    std::unique_ptr<BankStepWriter> file;  // null: it has no part so far
    std::string path;
    int unwritten = 0;  // parts that some thread is writing
    bool ended = false;
  };
  absl::Status Push(Item item);
  // These three under the mutex.
  bool HasRoomFor(uint64_t bytes) const;
  bool MayTake() const;
  absl::StatusOr<Step*> StepAtHand();
  void WriteAll();
  void SyncAll();
  void Fail(const absl::Status& status);

  base::Env& env_;
  const std::string folder_;
  const BankOrigin origin_;
  const int64_t halves_;
  const BankElement element_;
  const uint64_t queue_parts_;
  const bool durable_;
  std::mutex mutex_;  // guards the rest
  std::condition_variable changed_;
  std::deque<Item> queue_;
  uint64_t queued_bytes_ = 0, largest_part_bytes_ = 0;
  std::deque<Step> steps_;  // ascending; the last one may get more parts
  int next_step_ = 0;       // the number of the one after it
  bool stopping_ = false;
  int ended_ = 0, stored_ = 0;  // steps
  std::vector<StoredStep> untaken_;
  absl::Status failure_;
  std::vector<std::thread> threads_;
};

}  // namespace storyfarm::identity

#endif  // STORYFARM_PIPELINE_IDENTITY_BANK_WRITER_H_
