// The store in Redis (7.0, at least 6.2). Layout and promises: store.h.
#ifndef STORYFARM_COORDINATOR_STORE_REDIS_STORE_H_
#define STORYFARM_COORDINATOR_STORE_REDIS_STORE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/store/redis_connection.h"
#include "coordinator/store/store.h"

namespace storyfarm::coordinator {

class RedisStore : public Store {
 public:
  // `farm` names the keys, so that one server may hold several farms: 1 to 64 of [a-z0-9-]. `name` is what Watch shows
  // of this store once it leads.
  RedisStore(RedisOptions options, const std::string& farm, std::string name = "");

  using Store::TakeOver;
  absl::StatusOr<Leadership> Watch() override;
  // Also refuses, with FAILED_PRECONDITION and a sentence: a server too old, one that would lose what it acknowledged
  // (appendonly off, appendfsync not always), one that may drop keys when full, and data of a newer version.
  absl::StatusOr<uint64_t> TakeOver(std::optional<uint64_t> only_after) override;
  absl::Status Beat() override;
  absl::Status LetGo() override;
  absl::StatusOr<LogEnd> Load(const std::function<absl::Status(const Snapshot&)>& on_snapshot,
                              const std::function<absl::Status(const farm::v1::RecordBatch&)>& on_batch) override;
  AppendResult Append(const farm::v1::RecordBatch& batch) override;
  absl::Status BeginSnapshot(uint64_t sequence) override;
  absl::Status PutSnapshotPiece(uint64_t sequence, size_t number, const std::string& bytes) override;
  absl::Status SwitchSnapshot(uint64_t sequence, size_t pieces) override;
  absl::Status PutArchive(const std::string& job_id, const farm::v1::JobArchive& body) override;
  absl::StatusOr<farm::v1::JobArchive> GetArchive(const std::string& job_id) override;
  absl::Status RemoveArchive(const std::string& job_id) override;

 private:
  std::string Key(const std::string& name) const { return prefix_ + name; }
  std::string PiecesKey(uint64_t sequence) const;
  // A command that changes nothing: asked once more on a fresh connection. Replies of kind kError become a status.
  absl::StatusOr<RedisReply> Read(const std::vector<std::string>& words);
  // The number that a key or a field holds; nullopt where there is none.
  absl::StatusOr<std::optional<uint64_t>> ReadNumber(const std::vector<std::string>& words);
  // Runs a script that compares the epoch first: the key of the epoch is put before `keys`. OK, ABORTED (fenced),
  // RESOURCE_EXHAUSTED (refused, nothing written), UNAVAILABLE (unknown).
  absl::StatusOr<std::string> Script(const char* script, const std::vector<std::string>& keys,
                                     const std::vector<std::string>& arguments);
  absl::Status CheckServer();
  absl::StatusOr<std::optional<Snapshot>> LoadSnapshot();

  RedisConnection connection_;
  const std::string prefix_;
  const std::string name_;
  std::string epoch_;  // empty before TakeOver, which no script takes for the newest
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_STORE_REDIS_STORE_H_
