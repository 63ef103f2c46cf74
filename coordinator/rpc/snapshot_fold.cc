#include "coordinator/rpc/snapshot_fold.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {

SnapshotFold::SnapshotFold(std::unique_ptr<Farm> farm, uint64_t sequence, const Options& options, Events events)
    : farm_(std::move(farm)),
      sequence_(sequence),
      options_(options),
      events_(std::move(events)),
      shared_(std::make_shared<Shared>()),
      thread_([this] { Main(); }) {}

void SnapshotFold::Stop() {
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->stopping = true;
  }
  shared_->changed.notify_all();
  if (thread_.joinable()) thread_.join();
  std::deque<std::function<void(const Farm*, uint64_t)>> looks;
  looks.swap(shared_->looks);  // no other thread adds any more
  for (const auto& look : looks) look(nullptr, 0);
}

void SnapshotFold::Add(std::shared_ptr<const farm::v1::RecordBatch> batch) {
  std::unique_lock<std::mutex> lock(shared_->mutex);
  shared_->changed.wait(lock, [this] { return shared_->stopping || shared_->batches.size() < kUnfoldedBatches; });
  if (shared_->stopping) return;
  shared_->batches.push_back(std::move(batch));
  shared_->changed.notify_all();
}

void SnapshotFold::Look(std::function<void(const Farm*, uint64_t)> look) {
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    if (!shared_->stopping) {
      shared_->looks.push_back(std::move(look));
      shared_->changed.notify_all();
      return;
    }
  }
  look(nullptr, 0);
}

bool SnapshotFold::NextBatch(std::shared_ptr<const farm::v1::RecordBatch>* batch, bool* may_save) {
  std::unique_lock<std::mutex> lock(shared_->mutex);
  for (;;) {
    shared_->changed.wait(lock,
                          [this] { return shared_->stopping || !shared_->batches.empty() || !shared_->looks.empty(); });
    if (shared_->stopping) return false;
    if (shared_->looks.empty()) break;
    const auto look = std::move(shared_->looks.front());
    shared_->looks.pop_front();
    lock.unlock();
    look(farm_.get(), sequence_);
    lock.lock();
  }
  *batch = std::move(shared_->batches.front());
  shared_->batches.pop_front();
  *may_save = !shared_->saving;
  return true;
}

void SnapshotFold::Main() {
  size_t records = 0;
  size_t bytes = 0;
  for (;;) {
    std::shared_ptr<const farm::v1::RecordBatch> batch;
    bool may_save = false;
    if (!NextBatch(&batch, &may_save)) return;
    shared_->changed.notify_all();
    for (const farm::v1::Record& record : batch->records()) {
      const absl::Status status = farm_->Apply(record);
      if (!status.ok()) {
        {
          std::lock_guard<std::mutex> lock(shared_->mutex);
          shared_->stopping = true;
        }
        shared_->changed.notify_all();
        events_.failed(absl::InternalError(absl::StrCat("Entry ", batch->sequence(),
                                                        " of the log, which this "
                                                        "coordinator wrote, does not follow those before it: ",
                                                        status.ToString())));
        return;
      }
    }
    sequence_ = batch->sequence();
    records += static_cast<size_t>(batch->records_size());
    bytes += batch->ByteSizeLong();
    if (!may_save || (records < options_.records && bytes < options_.bytes)) continue;
    records = 0;
    bytes = 0;
    {
      std::lock_guard<std::mutex> lock(shared_->mutex);
      shared_->saving = true;
    }
    events_.save({sequence_, farm_->SerializeState()}, [shared = shared_] {
      std::lock_guard<std::mutex> lock(shared->mutex);
      shared->saving = false;
    });
  }
}

}  // namespace storyfarm::coordinator
