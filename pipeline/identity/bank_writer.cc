#include "pipeline/identity/bank_writer.h"

#include <utility>

#include "absl/strings/str_format.h"

namespace storyfarm::identity {

BankWriter::BankWriter(base::Env& env, std::string folder, BankOrigin origin, int64_t halves, BankElement element,
                       bool durable)
    : env_(env),
      folder_(std::move(folder)),
      origin_(std::move(origin)),
      halves_(halves),
      element_(element),
      durable_(durable) {
  writing_ = std::thread([this] { WriteAll(); });
  syncing_ = std::thread([this] { SyncAll(); });
}

BankWriter::~BankWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  writing_.join();
  syncing_.join();
}

bool BankWriter::HasRoomFor(uint64_t bytes) const {
  return queue_.size() < kQueuedBankParts || queued_bytes_ + bytes <= kQueuedBankBytes;
}

absl::Status BankWriter::Push(Item item) {
  const uint64_t bytes = item.ends_step ? 0 : item.part.shape.Bytes();
  std::unique_lock lock(mutex_);
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

void BankWriter::WriteAll() {
  while (true) {
    Item item;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !failure_.ok() || !queue_.empty(); });
      if (stopping_ || !failure_.ok()) return;
      item = std::move(queue_.front());
      queue_.pop_front();
      if (!item.ends_step) queued_bytes_ -= item.part.shape.Bytes();
    }
    changed_.notify_all();
    if (const absl::Status status = Write(item); !status.ok()) return Fail(status);
  }
}

absl::Status BankWriter::Write(const Item& item) {
  if (item.ends_step) {
    ++writing_step_;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopping_ || !failure_.ok() || unsynced_.size() < kUnsyncedSteps; });
    unsynced_.push_back({std::move(writer_), std::exchange(path_, "")});
    changed_.notify_all();
    return absl::OkStatus();
  }
  if (writer_ == nullptr) {
    path_ = base::JoinPath(folder_, absl::StrFormat("bank-%04d.bank", writing_step_));
    auto writer = BankStepWriter::Create(env_, path_, origin_, writing_step_, halves_, element_);
    if (!writer.ok()) return writer.status();
    writer_ = *std::move(writer);
  }
  const absl::StatusOr<std::span<const std::byte>> bytes = item.part.bytes();
  if (!bytes.ok()) return bytes.status();
  return writer_->Append(item.part.layer, item.part.half, item.part.shape, *bytes);
}

void BankWriter::SyncAll() {
  while (true) {
    Written written;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !failure_.ok() || !unsynced_.empty(); });
      if (stopping_ || !failure_.ok()) return;
      written = std::move(unsynced_.front());
      unsynced_.pop_front();
    }
    changed_.notify_all();
    if (written.file != nullptr) {
      if (const absl::Status status = written.file->Finish(durable_); !status.ok()) return Fail(status);
    }
    const std::lock_guard lock(mutex_);
    untaken_.push_back({stored_++, std::move(written.path)});
    changed_.notify_all();
  }
}

}  // namespace storyfarm::identity
