#include "pipeline/identity/bank_writer.h"

#include <utility>

#include "absl/strings/str_format.h"

namespace storyfarm::identity {

BankWriter::BankWriter(base::Env& env, std::string folder, BankOrigin origin, int64_t halves, BankElement element)
    : env_(env), folder_(std::move(folder)), origin_(std::move(origin)), halves_(halves), element_(element) {
  thread_ = std::thread([this] { WriteAll(); });
}

BankWriter::~BankWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

absl::Status BankWriter::Push(Item item) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !failure_.ok() || queue_.size() < kQueuedBankParts; });
  if (!failure_.ok()) return failure_;
  if (item.ends_step) ++ended_;
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

void BankWriter::WriteAll() {
  while (true) {
    Item item;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      item = std::move(queue_.front());
      queue_.pop_front();
    }
    changed_.notify_all();
    const absl::Status status = Write(item);
    const std::lock_guard lock(mutex_);
    if (!status.ok()) {
      failure_ = status;
      changed_.notify_all();
      return;
    }
    if (!item.ends_step) continue;
    untaken_.push_back({stored_++, std::exchange(path_, "")});
    changed_.notify_all();
  }
}

absl::Status BankWriter::Write(const Item& item) {
  if (item.ends_step) {
    ++writing_step_;
    if (writer_ == nullptr) return absl::OkStatus();
    const absl::Status status = writer_->Finish();
    writer_.reset();
    return status;
  }
  if (writer_ == nullptr) {
    path_ = base::JoinPath(folder_, absl::StrFormat("bank-%04d.bank", writing_step_));
    auto writer = BankStepWriter::Create(env_, path_, origin_, writing_step_, halves_, element_);
    if (!writer.ok()) return writer.status();
    writer_ = *std::move(writer);
  }
  return writer_->Append(item.part.layer, item.part.half, item.part.shape, item.part.bytes);
}

}  // namespace storyfarm::identity
