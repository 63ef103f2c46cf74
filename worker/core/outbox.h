// Finished results on their way to the coordinator: each goes to disk, its blobs go up, then it is sent, until it is
// answered. Also uploads blobs ahead of their result (bank steps, as they come).
#ifndef STORYFARM_WORKER_CORE_OUTBOX_H_
#define STORYFARM_WORKER_CORE_OUTBOX_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "farm/v1/session.pb.h"
#include "worker/core/keys.h"
#include "worker/core/limits.h"
#include "worker/core/session.h"

namespace storyfarm::worker {

class Outbox {
 public:
  explicit Outbox(const Limits& limits) : limits_(limits) {}

  // From an earlier process: already on disk.
  void Restore(farm::v1::Result result);
  // Finished now: to be persisted first.
  void Add(farm::v1::Result result, Actions* actions);

  void Persisted(const farm::v1::FencingToken& token, const farm::v1::TaskId& task);
  // Forgets it; the caller reports the task.
  void Remove(const farm::v1::FencingToken& token, const farm::v1::TaskId& task);

  // A blob that a result to come will name. Hold and Unhold go in pairs.
  void Hold(const farm::v1::BlobRef& blob);
  void Unhold(const std::string& digest);

  void Uploaded(const std::string& digest);
  void UploadFailed(int64_t now_ms, const std::string& digest, bool lost);

  // ACCEPTED and STALE clear. Of BLOBS_MISSING, a blob that the cache lost makes the result undeliverable: it is
  // cleared and a fault sent in its place.
  void Answered(const farm::v1::ResultVerdict& verdict, Actions* actions);

  // Nothing sent counts as sent any more.
  void Offline();

  // Sends and uploads what can be, now that the session is welcomed. Of results, at most Limits::unanswered_results wait
  // for their answer at a time.
  void Pump(int64_t now_ms, Actions* actions);

  size_t size() const { return entries_.size(); }
  std::vector<farm::v1::OutboxEntry> List() const;

 private:
  using EntryKey = std::pair<TokenKey, TaskKey>;
  struct Entry {
    farm::v1::Result result;
    std::vector<std::string> digests;
    bool persisted = false;
    bool sent = false;
    int64_t send_again_ms = 0;  // where it is still not answered
  };
  enum class BlobState { kHere, kUploading, kDurable, kLost };
  struct BlobEntry {
    farm::v1::BlobRef blob;
    BlobState state = BlobState::kHere;
    uint32_t users = 0;  // entries and holds
    int64_t retry_at_ms = 0;
    int64_t retry_after_ms = 0;
  };

  void Insert(farm::v1::Result result, bool persisted);
  void Erase(std::map<EntryKey, Entry>::iterator entry);
  bool AllSettled(const Entry& entry) const;

  Limits limits_;
  std::map<EntryKey, Entry> entries_;
  std::map<std::string, BlobEntry> blobs_;  // by digest
};

}  // namespace storyfarm::worker

#endif  // STORYFARM_WORKER_CORE_OUTBOX_H_
