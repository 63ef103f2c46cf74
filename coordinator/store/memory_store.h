// A store in memory: for tests and the simulation. What would be the disk is an object of its own, so that a
// "restarted" coordinator finds it again, two can fight over it, and a test can break it.
#ifndef STORYFARM_COORDINATOR_STORE_MEMORY_STORE_H_
#define STORYFARM_COORDINATOR_STORE_MEMORY_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "coordinator/store/store.h"

namespace storyfarm::coordinator {

// Thread-safe.
class MemoryDisk {
 public:
  // What befalls the next writes, one each: nothing, the request is lost on its way, the answer is lost, a refusal.
  enum class Accident { kNone, kRequestLost, kAnswerLost, kRefused };
  void Break(Accident accident, int writes);
  // Bytes of the log, as serialized batches.
  uint64_t log_bytes() const;

 private:
  friend class MemoryStore;
  Accident NextAccident();

  mutable std::mutex mutex_;
  uint64_t epoch_ = 0;
  uint64_t head_ = 0;
  uint64_t beats_ = 0;
  std::string leader_;
  std::map<uint64_t, std::string> log_;
  std::optional<Snapshot> snapshot_;
  Snapshot writing_;  // begun, not switched to
  std::map<std::string, std::string> archive_;
  Accident accident_ = Accident::kNone;
  int accidents_left_ = 0;
};

class MemoryStore : public Store {
 public:
  // `name` is what Watch shows of it once it leads.
  explicit MemoryStore(std::shared_ptr<MemoryDisk> disk, std::string name = "")
      : disk_(std::move(disk)), name_(std::move(name)) {}

  using Store::TakeOver;
  absl::StatusOr<Leadership> Watch() override;
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
  // A write to the disk: `change` is carried out unless an accident or another take-over stops it.
  absl::Status Write(const std::function<absl::Status(MemoryDisk&)>& change);

  std::shared_ptr<MemoryDisk> disk_;
  const std::string name_;
  uint64_t epoch_ = 0;
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_STORE_MEMORY_STORE_H_
