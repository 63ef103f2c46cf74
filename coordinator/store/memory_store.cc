#include "coordinator/store/memory_store.h"

#include <vector>

#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {

void MemoryDisk::Break(Accident accident, int writes) {
  std::lock_guard<std::mutex> lock(mutex_);
  accident_ = accident;
  accidents_left_ = writes;
}

uint64_t MemoryDisk::log_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  uint64_t bytes = 0;
  for (const auto& [sequence, batch] : log_) bytes += batch.size();
  return bytes;
}

MemoryDisk::Accident MemoryDisk::NextAccident() {
  if (accidents_left_ == 0) return Accident::kNone;
  --accidents_left_;
  return accident_;
}

absl::StatusOr<uint64_t> MemoryStore::TakeOver() {
  std::lock_guard<std::mutex> lock(disk_->mutex_);
  switch (disk_->NextAccident()) {
    case MemoryDisk::Accident::kNone:
      break;
    case MemoryDisk::Accident::kAnswerLost:
      ++disk_->epoch_;
      return absl::UnavailableError("the store did not answer");
    default:
      return absl::UnavailableError("the store could not be reached");
  }
  epoch_ = ++disk_->epoch_;
  return epoch_;
}

absl::StatusOr<LogEnd> MemoryStore::Load(const std::function<absl::Status(const Snapshot&)>& on_snapshot,
                                         const std::function<absl::Status(const farm::v1::RecordBatch&)>& on_batch) {
  // Callbacks run without the lock, on copies.
  std::optional<Snapshot> snapshot;
  std::vector<std::string> batches;
  LogEnd end;
  {
    std::lock_guard<std::mutex> lock(disk_->mutex_);
    snapshot = disk_->snapshot_;
    const uint64_t first = snapshot.has_value() ? snapshot->sequence + 1 : 1;
    for (auto entry = disk_->log_.lower_bound(first); entry != disk_->log_.end(); ++entry) {
      batches.push_back(entry->second);
    }
    end.sequence = disk_->head_;
  }
  if (snapshot.has_value()) {
    if (const absl::Status status = on_snapshot(*snapshot); !status.ok()) return status;
  }
  for (const std::string& bytes : batches) {
    farm::v1::RecordBatch batch;
    if (!batch.ParseFromString(bytes)) return absl::DataLossError("an entry of the log is damaged");
    if (const absl::Status status = on_batch(batch); !status.ok()) return status;
  }
  return end;
}

AppendResult MemoryStore::Append(const farm::v1::RecordBatch& batch) {
  std::lock_guard<std::mutex> lock(disk_->mutex_);
  const MemoryDisk::Accident accident = disk_->NextAccident();
  if (accident == MemoryDisk::Accident::kRequestLost) {
    return {AppendOutcome::kUnknown, "the store did not answer"};
  }
  if (epoch_ == 0 || epoch_ != disk_->epoch_) {
    return {AppendOutcome::kFenced, "another coordinator took this farm over"};
  }
  if (accident == MemoryDisk::Accident::kRefused) return {AppendOutcome::kRefused, "the store is full"};
  if (batch.sequence() > disk_->head_) {
    if (batch.sequence() != disk_->head_ + 1) {
      return {AppendOutcome::kGap,
              absl::StrCat("batch ", batch.sequence(), " does not follow the log's last one, ", disk_->head_)};
    }
    disk_->log_[batch.sequence()] = batch.SerializeAsString();
    disk_->head_ = batch.sequence();
  }
  if (accident == MemoryDisk::Accident::kAnswerLost) return {AppendOutcome::kUnknown, "the store did not answer"};
  return {AppendOutcome::kAppended, ""};
}

absl::Status MemoryStore::MayWrite(bool* lost_answer) {
  const MemoryDisk::Accident accident = disk_->NextAccident();
  *lost_answer = accident == MemoryDisk::Accident::kAnswerLost;
  if (accident == MemoryDisk::Accident::kRequestLost) return absl::UnavailableError("the store did not answer");
  if (epoch_ == 0 || epoch_ != disk_->epoch_) return absl::AbortedError("another coordinator took this farm over");
  if (accident == MemoryDisk::Accident::kRefused) return absl::ResourceExhaustedError("the store is full");
  return absl::OkStatus();
}

absl::Status MemoryStore::SaveSnapshot(const Snapshot& snapshot) {
  std::lock_guard<std::mutex> lock(disk_->mutex_);
  bool lost_answer = false;
  if (const absl::Status status = MayWrite(&lost_answer); !status.ok()) return status;
  if (snapshot.sequence > disk_->head_) {
    return absl::InvalidArgumentError(
        absl::StrCat("a snapshot of batch ", snapshot.sequence, ", but the log ends at ", disk_->head_));
  }
  if (!disk_->snapshot_.has_value() || disk_->snapshot_->sequence < snapshot.sequence) disk_->snapshot_ = snapshot;
  disk_->log_.erase(disk_->log_.begin(), disk_->log_.upper_bound(disk_->snapshot_->sequence));
  return lost_answer ? absl::UnavailableError("the store did not answer") : absl::OkStatus();
}

absl::Status MemoryStore::PutArchive(const std::string& job_id, const farm::v1::JobArchive& body) {
  std::lock_guard<std::mutex> lock(disk_->mutex_);
  bool lost_answer = false;
  if (const absl::Status status = MayWrite(&lost_answer); !status.ok()) return status;
  disk_->archive_[job_id] = body.SerializeAsString();
  return lost_answer ? absl::UnavailableError("the store did not answer") : absl::OkStatus();
}

absl::StatusOr<farm::v1::JobArchive> MemoryStore::GetArchive(const std::string& job_id) {
  std::lock_guard<std::mutex> lock(disk_->mutex_);
  const auto found = disk_->archive_.find(job_id);
  if (found == disk_->archive_.end()) return absl::NotFoundError(absl::StrCat("job ", job_id, " is not archived"));
  farm::v1::JobArchive body;
  if (!body.ParseFromString(found->second)) return absl::DataLossError("an archived job is damaged");
  return body;
}

}  // namespace storyfarm::coordinator
