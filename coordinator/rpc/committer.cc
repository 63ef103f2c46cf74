#include "coordinator/rpc/committer.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/rpc/leader_watch.h"

namespace storyfarm::coordinator {

using farm::v1::JobArchive;
using farm::v1::Record;
using farm::v1::RecordBatch;

Committer::Committer(Store* store, base::Env* env, base::Log* log, uint64_t sequence, uint64_t last_record, bool beats,
                     Events events)
    : store_(store),
      env_(env),
      log_(log),
      events_(std::move(events)),
      sequence_(sequence),
      last_record_(last_record),
      beats_(beats),
      thread_([this] { Main(); }) {}

void Committer::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  std::list<Chore> chores;
  chores.swap(chores_);  // no other thread adds any more
  for (Chore& chore : chores) {
    if (chore.abandoned) chore.abandoned();
  }
}

void Committer::Append(std::vector<Record> records) {
  if (records.empty()) return;
  std::vector<size_t> sizes;
  for (const Record& record : records) sizes.push_back(record.ByteSizeLong());
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = 0; i < records.size(); ++i) {
      pending_bytes_ += sizes[i];
      pending_.emplace_back(std::move(records[i]), sizes[i]);
    }
  }
  changed_.notify_all();
}

void Committer::AddChore(Chore chore) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!stopping_ && !failed_) {
      chores_.push_back(std::move(chore));
      changed_.notify_all();
      return;
    }
  }
  if (chore.abandoned) chore.abandoned();
}

void Committer::PutArchive(Archive archive, std::function<void()> stored) {
  Chore chore;
  chore.after_record = archive.after_record;
  chore.run = [this, archive = std::move(archive), stored = std::move(stored)] {
    const absl::Status status = store_->PutArchive(archive.job_id, archive.Body());
    if (status.ok()) stored();
    return Judge(status, "a finished job could not be archived, tried again", archive.job_id);
  };
  AddChore(std::move(chore));
}

void Committer::RemoveArchive(std::string job_id, uint64_t after_record, std::function<void()> removed) {
  Chore chore;
  chore.after_record = after_record;
  chore.run = [this, job_id = std::move(job_id), removed = std::move(removed)] {
    const absl::Status status = store_->RemoveArchive(job_id);
    if (status.ok()) removed();
    return Judge(status, "the archive of a removed job could not be dropped, tried again", job_id);
  };
  AddChore(std::move(chore));
}

Committer::After Committer::Judge(const absl::Status& status, const char* complaint, const std::string& job_id) {
  if (status.ok()) return After::kDone;
  if (absl::IsAborted(status)) {
    Fail(status);
    return After::kDone;
  }
  log_->Warning(complaint, {{"job", job_id}, {"why", std::string(status.message())}});
  return After::kTryAgain;
}

void Committer::GetArchive(std::string job_id, std::function<void(absl::StatusOr<JobArchive>)> done) {
  Chore chore;
  chore.run = [this, job_id = std::move(job_id), done] {
    done(store_->GetArchive(job_id));
    return After::kDone;
  };
  chore.abandoned = [done] { done(absl::CancelledError("The coordinator stopped.")); };
  AddChore(std::move(chore));
}

void Committer::SaveSnapshot(Snapshot snapshot, std::function<void()> saved) {
  // A step each time: begin, each piece, switch. After a failure it begins anew.
  Chore chore;
  chore.run = [this, snapshot = std::move(snapshot), saved = std::move(saved), step = size_t{0}]() mutable {
    const size_t pieces = snapshot.pieces.size();
    absl::Status status;
    if (step == 0) {
      status = store_->BeginSnapshot(snapshot.sequence);
      if (absl::IsAlreadyExists(status)) {  // an earlier switch, unanswered, arrived
        saved();
        return After::kDone;
      }
    } else if (step <= pieces) {
      status = store_->PutSnapshotPiece(snapshot.sequence, step - 1, snapshot.pieces[step - 1]);
    } else {
      status = store_->SwitchSnapshot(snapshot.sequence, pieces);
    }
    if (!status.ok()) {
      step = 0;
      return Judge(status, "a snapshot could not be saved, tried again", "");
    }
    if (step++ <= pieces) return After::kGoOn;
    log_->Info("snapshot saved", {{"sequence", snapshot.sequence}, {"pieces", pieces}});
    saved();
    return After::kDone;
  };
  AddChore(std::move(chore));
}

size_t Committer::pending_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return pending_bytes_;
}

void Committer::Main() {
  for (;;) {
    const int64_t beat_ms = BeatIfDue();
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (stopping_ || failed_) return;
      if (pending_.empty()) {
        const int64_t now_ms = env_->MonotonicMs();
        int64_t wake_ms = beat_ms;
        for (const Chore& chore : chores_) {
          if (chore.after_record <= last_record_) wake_ms = std::min(wake_ms, chore.not_before_ms);
        }
        if (wake_ms > now_ms) {
          changed_.wait_for(lock, std::chrono::milliseconds(wake_ms - now_ms));
          continue;
        }
      }
    }
    size_t bytes = 0;
    std::shared_ptr<const RecordBatch> batch = TakeBatch(&bytes);
    if (batch->records_size() > 0) {
      if (!Commit(*batch)) return;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        pending_bytes_ -= bytes;
      }
      sequence_ = batch->sequence();
      last_record_ += static_cast<uint64_t>(batch->records_size());
      events_.durable(std::move(batch), last_record_);
    }
    RunOneChore();
  }
}

std::shared_ptr<const RecordBatch> Committer::TakeBatch(size_t* bytes) {
  const auto batch = std::make_shared<RecordBatch>();
  batch->set_sequence(sequence_ + 1);
  std::lock_guard<std::mutex> lock(mutex_);
  while (!pending_.empty() && batch->records_size() < static_cast<int>(kBatchRecords)) {
    const size_t next = pending_.front().second;
    if (batch->records_size() > 0 && *bytes + next > kBatchBytes) break;
    *bytes += next;
    *batch->add_records() = std::move(pending_.front().first);
    pending_.pop_front();
  }
  return batch;
}

int64_t Committer::BeatIfDue() {
  const int64_t now_ms = env_->MonotonicMs();
  if (!beats_) return now_ms + kComplainMs;  // nothing hangs on it: every change notifies
  if (now_ms < next_beat_ms_) return next_beat_ms_;
  const absl::Status status = store_->Beat();
  next_beat_ms_ = now_ms + kBeatMs;
  if (status.ok()) {
    if (events_.led) events_.led(now_ms);
  } else if (absl::IsAborted(status)) {
    Fail(status);
  } else if (now_ms >= beat_complaint_ms_) {
    beat_complaint_ms_ = now_ms + kComplainMs;
    log_->Error("the store does not take signs of life, tried again", {{"why", std::string(status.message())}});
  }
  return next_beat_ms_;
}

bool Committer::Commit(const RecordBatch& batch) {
  const int64_t began_ms = env_->MonotonicMs();
  int64_t unresolved_since_ms = -1;
  AppendSign sign;
  int64_t complained_ms = began_ms - kComplainMs;
  int64_t pause_ms = 20;
  for (;;) {
    const int64_t asked_ms = env_->MonotonicMs();
    const AppendResult result = store_->Append(batch);
    const int64_t now_ms = env_->MonotonicMs();
    switch (result.outcome) {
      case AppendOutcome::kAppended:
        next_beat_ms_ = sign.Answered(asked_ms) + kBeatMs;
        if (events_.led) events_.led(sign.Answered(asked_ms));
        return true;
      case AppendOutcome::kFenced:
        Fail(absl::AbortedError(absl::StrCat("Another coordinator took this farm's store over. ", result.message)));
        return false;
      case AppendOutcome::kGap:
        Fail(absl::DataLossError(absl::StrCat(
            "Redis lost batches that it had acknowledged: ", result.message,
            ". Its file was cut or replaced by an older one. Put the file back if you have it; or start the "
            "coordinator again, which goes on from what is left.")));
        return false;
      case AppendOutcome::kUnknown:
        sign.NoAnswer(asked_ms);
        if (unresolved_since_ms < 0) unresolved_since_ms = now_ms;
        if (now_ms - unresolved_since_ms >= kUnresolvedMs) {
          Fail(absl::UnavailableError(absl::StrCat("The store has not answered for ", kUnresolvedMs / 1000,
                                                   " s, and whether it kept the last ", batch.records_size(),
                                                   " records is not known: ", result.message,
                                                   ". Nothing that was accepted is lost: see whether its disk is "
                                                   "full. It is asked again until it answers.")));
          return false;
        }
        pause_ms = std::min<int64_t>(pause_ms * 2, kRetryMs);
        break;
      case AppendOutcome::kRefused:
        unresolved_since_ms = -1;
        pause_ms = kRetryMs;
        break;
    }
    if (now_ms - complained_ms >= kComplainMs) {
      complained_ms = now_ms;
      log_->Error("the store does not take records, tried again",
                  {{"records", batch.records_size()}, {"why", result.message}});
    }
    if (Pause(pause_ms)) return false;
  }
}

void Committer::RunOneChore() {
  Chore chore;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const int64_t now_ms = env_->MonotonicMs();
    const auto due = std::find_if(chores_.begin(), chores_.end(), [&](const Chore& each) {
      return each.after_record <= last_record_ && each.not_before_ms <= now_ms;
    });
    if (due == chores_.end()) return;
    chore = std::move(*due);
    chores_.erase(due);
  }
  const After after = chore.run();
  if (after == After::kDone) return;
  if (after == After::kTryAgain) chore.not_before_ms = env_->MonotonicMs() + kRetryMs;
  AddChore(std::move(chore));
}

bool Committer::Pause(int64_t ms) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return stopping_; });
  return stopping_;
}

void Committer::Fail(const absl::Status& why) {
  std::list<Chore> chores;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    failed_ = true;
    chores.swap(chores_);
  }
  for (Chore& chore : chores) {
    if (chore.abandoned) chore.abandoned();
  }
  events_.failed(why);
}

}  // namespace storyfarm::coordinator
