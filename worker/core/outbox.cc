#include "worker/core/outbox.h"

#include <algorithm>

namespace storyfarm::worker {

using farm::v1::Result;

void Outbox::Insert(Result result, bool persisted) {
  const EntryKey key(KeyOf(result.token()), KeyOf(result.task()));
  if (entries_.count(key) > 0) return;
  Entry entry;
  for (const farm::v1::BlobRef& blob : BlobsOf(result)) {
    Hold(blob);
    entry.digests.push_back(blob.digest());
  }
  entry.result = std::move(result);
  entry.persisted = persisted;
  entries_.emplace(key, std::move(entry));
}

void Outbox::Restore(Result result) { Insert(std::move(result), /*persisted=*/true); }

void Outbox::Add(Result result, Actions* actions) {
  actions->push_back(Persist{result});
  Insert(std::move(result), /*persisted=*/false);
}

void Outbox::Persisted(const farm::v1::FencingToken& token, const farm::v1::TaskId& task) {
  const auto found = entries_.find({KeyOf(token), KeyOf(task)});
  if (found != entries_.end()) found->second.persisted = true;
}

void Outbox::Remove(const farm::v1::FencingToken& token, const farm::v1::TaskId& task) {
  const auto found = entries_.find({KeyOf(token), KeyOf(task)});
  if (found != entries_.end()) Erase(found);
}

void Outbox::Erase(std::map<EntryKey, Entry>::iterator entry) {
  for (const std::string& digest : entry->second.digests) Unhold(digest);
  entries_.erase(entry);
}

void Outbox::Hold(const farm::v1::BlobRef& blob) {
  BlobEntry& entry = blobs_[blob.digest()];
  entry.blob = blob;
  ++entry.users;
}

void Outbox::Unhold(const std::string& digest) {
  const auto found = blobs_.find(digest);
  if (found == blobs_.end()) return;
  if (--found->second.users == 0) blobs_.erase(found);
}

void Outbox::Uploaded(const std::string& digest) {
  const auto found = blobs_.find(digest);
  if (found == blobs_.end()) return;
  found->second.state = BlobState::kDurable;
  found->second.retry_after_ms = 0;
}

void Outbox::UploadFailed(int64_t now_ms, const std::string& digest, bool lost) {
  const auto found = blobs_.find(digest);
  if (found == blobs_.end()) return;
  BlobEntry& blob = found->second;
  blob.state = lost ? BlobState::kLost : BlobState::kHere;
  blob.retry_after_ms =
      blob.retry_after_ms == 0 ? limits_.upload_first_ms : std::min(2 * blob.retry_after_ms, limits_.upload_most_ms);
  blob.retry_at_ms = now_ms + blob.retry_after_ms;
}

void Outbox::Answered(const farm::v1::ResultVerdict& verdict, Actions* actions) {
  const auto found = entries_.find({KeyOf(verdict.token()), KeyOf(verdict.task())});
  if (found == entries_.end()) return;
  if (verdict.verdict() == farm::v1::ACCEPTED || verdict.verdict() == farm::v1::STALE) {
    actions->push_back(Clear{verdict.token(), verdict.task()});
    Erase(found);
    return;
  }
  if (verdict.verdict() != farm::v1::BLOBS_MISSING) return;
  found->second.sent = false;
  for (const std::string& digest : verdict.missing_digests()) {
    const auto blob = blobs_.find(digest);
    if (blob == blobs_.end()) continue;
    if (blob->second.state == BlobState::kLost) {
      farm::v1::WorkerMessage message;
      *message.mutable_fault()->mutable_token() = verdict.token();
      *message.mutable_fault()->add_tasks() = verdict.task();
      message.mutable_fault()->mutable_failure()->set_kind(farm::v1::BLOB_UNAVAILABLE);
      message.mutable_fault()->mutable_failure()->set_message(
          "The finished files were removed from the worker's cache before they could be uploaded; the task must run "
          "again. "
          "Give the worker's cache more room.");
      actions->push_back(Send{std::move(message)});
      actions->push_back(Clear{verdict.token(), verdict.task()});
      Erase(found);
      return;
    }
    if (blob->second.state == BlobState::kDurable) blob->second.state = BlobState::kHere;
  }
}

void Outbox::Offline() {
  for (auto& [key, entry] : entries_) entry.sent = false;
}

bool Outbox::AllSettled(const Entry& entry) const {
  return std::all_of(entry.digests.begin(), entry.digests.end(), [this](const std::string& digest) {
    const BlobState state = blobs_.at(digest).state;
    // A lost blob may still be there from an upload of an earlier process: the coordinator's answer tells.
    return state == BlobState::kDurable || state == BlobState::kLost;
  });
}

void Outbox::Pump(int64_t now_ms, Actions* actions) {
  for (auto& [digest, blob] : blobs_) {
    if (blob.state != BlobState::kHere || blob.retry_at_ms > now_ms) continue;
    blob.state = BlobState::kUploading;
    actions->push_back(Upload{blob.blob});
  }
  const auto waits = [now_ms](const Entry& entry) { return entry.sent && now_ms < entry.send_again_ms; };
  auto unanswered = static_cast<size_t>(
      std::count_if(entries_.begin(), entries_.end(), [&waits](const auto& each) { return waits(each.second); }));
  for (auto& [key, entry] : entries_) {
    if (unanswered >= limits_.unanswered_results) break;
    if (!entry.persisted || waits(entry) || !AllSettled(entry)) continue;
    ++unanswered;
    entry.sent = true;
    entry.send_again_ms = now_ms + limits_.answer_ms;
    farm::v1::WorkerMessage message;
    *message.mutable_result() = entry.result;
    actions->push_back(Send{std::move(message)});
  }
}

std::vector<farm::v1::OutboxEntry> Outbox::List() const {
  std::vector<farm::v1::OutboxEntry> list;
  for (const auto& [key, entry] : entries_) {
    farm::v1::OutboxEntry& item = list.emplace_back();
    *item.mutable_token() = entry.result.token();
    *item.mutable_task() = entry.result.task();
  }
  return list;
}

}  // namespace storyfarm::worker
