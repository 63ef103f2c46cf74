#include "pipeline/identity/bank_writer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace storyfarm::identity {

BankWriter::BankWriter(base::Env& env, std::string folder, BankOrigin origin, int64_t halves, BankElement element,
                       uint64_t queue_parts, bool durable)
    : env_(env),
      folder_(std::move(folder)),
      origin_(std::move(origin)),
      halves_(halves),
      element_(element),
      queue_parts_(queue_parts),
      durable_(durable) {
  for (int i = 0; i < kBankWriters; ++i) threads_.emplace_back([this] { WriteAll(); });
  threads_.emplace_back([this] { SyncAll(); });
}

BankWriter::~BankWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool BankWriter::HasRoomFor(uint64_t bytes) const {
  return queue_.empty() || queued_bytes_ + bytes <= queue_parts_ * largest_part_bytes_;
}

absl::Status BankWriter::Push(Item item) {
  const uint64_t bytes = item.ends_step ? 0 : item.part.shape.Bytes();
  std::unique_lock lock(mutex_);
  largest_part_bytes_ = std::max(largest_part_bytes_, bytes);
  changed_.wait(lock, [&] { return !failure_.ok() || HasRoomFor(bytes); });
  if (!failure_.ok()) return failure_;
  if (item.ends_step) ++ended_;
  queued_bytes_ += bytes;
  queue_.push_back(std::move(item));
  changed_.notify_all();
  return absl::OkStatus();
}

absl::Status BankWriter::Put(ComputedPart part) { return Push({.part = std::move(part)}); }
absl::Status BankWriter::EndStep() { return Push({.ends_step = true}); }

absl::StatusOr<std::vector<BankWriter::StoredStep>> BankWriter::TakeStored(bool wait) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !wait || !failure_.ok() || stored_ == ended_; });
  if (!failure_.ok()) return failure_;
  return std::exchange(untaken_, {});
}

void BankWriter::Fail(const absl::Status& status) {
  const std::lock_guard lock(mutex_);
  if (failure_.ok()) failure_ = status;
  changed_.notify_all();
}

bool BankWriter::MayTake() const {
  if (queue_.empty()) return false;
  const auto ended =
      static_cast<size_t>(std::count_if(steps_.begin(), steps_.end(), [](const Step& step) { return step.ended; }));
  return !queue_.front().ends_step || ended < kUnsyncedSteps;
}

absl::StatusOr<BankWriter::Step*> BankWriter::StepAtHand() {
  if (steps_.empty() || steps_.back().ended) {
    steps_.emplace_back();
    ++next_step_;
  }
  Step& step = steps_.back();
  if (queue_.front().ends_step || step.file != nullptr) return &step;
  const int number = next_step_ - 1;
  step.path = base::JoinPath(folder_, absl::StrFormat("bank-%04d.bank", number));
  auto file = BankStepWriter::Create(env_, step.path, origin_, number, halves_, element_);
  if (!file.ok()) return file.status();
  step.file = *std::move(file);
  return &step;
}

void BankWriter::WriteAll() {
  while (true) {
    Item item;
    absl::StatusOr<Step*> step = nullptr;
    BankPart* place = nullptr;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !failure_.ok() || MayTake(); });
      if (stopping_ || !failure_.ok()) return;
      step = StepAtHand();
      if (step.ok()) {
        item = std::move(queue_.front());
        queue_.pop_front();
        if (item.ends_step) {
          (*step)->ended = true;
        } else {
          queued_bytes_ -= item.part.shape.Bytes();
          place = &(*step)->file->Reserve(item.part.layer, item.part.half, item.part.shape);
          ++(*step)->unwritten;
        }
      }
    }
    if (!step.ok()) return Fail(step.status());
    changed_.notify_all();
    if (item.ends_step) continue;
    const absl::StatusOr<std::span<const std::byte>> bytes = item.part.bytes();
    const absl::Status written = bytes.ok() ? (*step)->file->Write(*place, *bytes) : bytes.status();
    if (!written.ok()) return Fail(written);
    const std::lock_guard lock(mutex_);
    --(*step)->unwritten;
    changed_.notify_all();
  }
}

void BankWriter::SyncAll() {
  while (true) {
    Step step;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] {
        const bool written = !steps_.empty() && steps_.front().ended && steps_.front().unwritten == 0;
        return stopping_ || !failure_.ok() || written;
      });
      if (stopping_ || !failure_.ok()) return;
      step = std::move(steps_.front());
      steps_.pop_front();
    }
    changed_.notify_all();
    if (step.file != nullptr) {
      if (const absl::Status status = step.file->Finish(durable_); !status.ok()) return Fail(status);
    }
    const std::lock_guard lock(mutex_);
    untaken_.push_back({stored_++, std::move(step.path)});
    changed_.notify_all();
  }
}

}  // namespace storyfarm::identity
