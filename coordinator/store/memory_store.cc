#include "coordinator/store/memory_store.h"

#include <algorithm>
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

absl::StatusOr<Leadership> MemoryStore::Watch() {
  std::lock_guard<std::mutex> lock(disk_->mutex_);
  return Leadership{disk_->epoch_, disk_->head_, disk_->beats_, disk_->leader_};
}

absl::StatusOr<uint64_t> MemoryStore::TakeOver(std::optional<uint64_t> only_after) {
  std::lock_guard<std::mutex> lock(disk_->mutex_);
  const MemoryDisk::Accident accident = disk_->NextAccident();
  if (accident == MemoryDisk::Accident::kRequestLost || accident == MemoryDisk::Accident::kRefused) {
    return absl::UnavailableError("the store could not be reached");
  }
  if (only_after.has_value() && disk_->epoch_ != *only_after) {
    return absl::AbortedError("another coordinator took this farm over");
  }
  ++disk_->epoch_;
  disk_->beats_ = 0;
  disk_->leader_ = name_;
  if (accident == MemoryDisk::Accident::kAnswerLost) return absl::UnavailableError("the store did not answer");
  epoch_ = disk_->epoch_;
  return epoch_;
}

absl::Status MemoryStore::Beat() {
  return Write([](MemoryDisk& disk) {
    ++disk.beats_;
    return absl::OkStatus();
  });
}

absl::Status MemoryStore::LetGo() {
  return Write([](MemoryDisk& disk) {
    disk.leader_.clear();
    return absl::OkStatus();
  });
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

absl::Status MemoryStore::Write(const std::function<absl::Status(MemoryDisk&)>& change) {
  std::lock_guard<std::mutex> lock(disk_->mutex_);
  const MemoryDisk::Accident accident = disk_->NextAccident();
  if (accident == MemoryDisk::Accident::kRequestLost) return absl::UnavailableError("the store did not answer");
  if (epoch_ == 0 || epoch_ != disk_->epoch_) return absl::AbortedError("another coordinator took this farm over");
  if (accident == MemoryDisk::Accident::kRefused) return absl::ResourceExhaustedError("the store is full");
  absl::Status changed = change(*disk_);
  return accident == MemoryDisk::Accident::kAnswerLost ? absl::UnavailableError("the store did not answer") : changed;
}

absl::Status MemoryStore::BeginSnapshot(uint64_t sequence) {
  return Write([sequence](MemoryDisk& disk) {
    if (disk.snapshot_.has_value() && disk.snapshot_->sequence >= sequence) {
      return absl::AlreadyExistsError("a snapshot as new is in place");
    }
    disk.writing_ = {sequence, {}};
    return absl::OkStatus();
  });
}

absl::Status MemoryStore::PutSnapshotPiece(uint64_t sequence, size_t number, const std::string& bytes) {
  return Write([sequence, number, &bytes](MemoryDisk& disk) {
    if (disk.writing_.sequence != sequence) return absl::InvalidArgumentError("the snapshot was not begun");
    if (disk.writing_.pieces.size() <= number) disk.writing_.pieces.resize(number + 1);
    disk.writing_.pieces[number] = bytes;
    return absl::OkStatus();
  });
}

absl::Status MemoryStore::SwitchSnapshot(uint64_t sequence, size_t pieces) {
  return Write([sequence, pieces](MemoryDisk& disk) {
    if (disk.snapshot_.has_value() && disk.snapshot_->sequence >= sequence) return absl::OkStatus();
    const bool empty = disk.head_ == 0 && !disk.snapshot_.has_value();
    if (!empty && sequence > disk.head_) {
      return absl::InvalidArgumentError(
          absl::StrCat("a snapshot of batch ", sequence, ", but the log ends at ", disk.head_));
    }
    if (disk.writing_.sequence != sequence || disk.writing_.pieces.size() != pieces) {
      return absl::InvalidArgumentError("the snapshot was not written");
    }
    disk.head_ = std::max(disk.head_, sequence);
    disk.snapshot_ = std::move(disk.writing_);
    disk.writing_ = {};
    disk.log_.erase(disk.log_.begin(), disk.log_.upper_bound(sequence));
    return absl::OkStatus();
  });
}

absl::Status MemoryStore::PutArchive(const std::string& job_id, const farm::v1::JobArchive& body) {
  return Write([&job_id, &body](MemoryDisk& disk) {
    disk.archive_[job_id] = body.SerializeAsString();
    return absl::OkStatus();
  });
}

absl::Status MemoryStore::RemoveArchive(const std::string& job_id) {
  return Write([&job_id](MemoryDisk& disk) {
    disk.archive_.erase(job_id);
    return absl::OkStatus();
  });
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
