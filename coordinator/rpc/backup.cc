#include "coordinator/rpc/backup.h"

#include <algorithm>
#include <future>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "coordinator/rpc/status.h"
#include "farm/v1/backup.pb.h"
#include "pipeline/base/framed_file.h"

namespace storyfarm::coordinator {
namespace {

using farm::v1::BackupPart;

constexpr size_t kBlobsAPart = 10'000;     // half a megabyte
constexpr size_t kChunkBytes = 512 << 10;  // of a stream

// Of the file that a call writes.
constexpr char kBackupPrefix[] = "backup-";

// What the durable state is, taken at one moment.
struct Moment {
  uint64_t sequence = 0;
  std::vector<std::string> pieces;
  std::vector<std::string> archived;  // job ids
  BlobSizes blobs;
};

absl::StatusOr<Moment> TakeMoment(Loop& loop) {
  std::promise<absl::StatusOr<Moment>> taken;
  loop.LookAtDurable([&taken](const Farm* farm, uint64_t sequence) {
    if (farm == nullptr) return taken.set_value(absl::UnavailableError("The coordinator is going down."));
    Moment moment;
    moment.sequence = sequence;
    moment.pieces = farm->SerializeState();
    moment.blobs = farm->LiveBlobs();
    moment.archived = farm->ArchivedJobs();
    taken.set_value(std::move(moment));
  });
  return taken.get_future().get();
}

// One call: the file is written first, then sent, and gone with the call.
class BackupStream : public grpc::ServerWriteReactor<farm::v1::BackupChunk> {
 public:
  explicit BackupStream(const BackupParts& parts) : parts_(parts) {
    OnPool([this] { Begin(); });
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the backup was broken off"));
    OnPool([this] { SendChunk(); });
  }
  void OnDone() override { delete this; }

 private:
  void OnPool(std::function<void()> work) {
    parts_.pool->Post([this, work = std::move(work)](const absl::Status& status) {
      if (!status.ok()) return Finish(ToGrpc(status, nullptr));
      work();
    });
  }
  void Begin() {
    const std::string path =
        base::JoinPath(parts_.folder, absl::StrCat(kBackupPrefix, absl::BytesToHexString(parts_.env->RandomBytes(8))));
    absl::Status ready = WriteBackup(parts_, path);
    if (ready.ok()) {
      auto file = parts_.env->OpenForReading(path);
      ready = file.status();
      if (file.ok()) file_ = *std::move(file);
    }
    // Its name goes at once, its bytes with the call.
    absl::Status removed = parts_.env->Remove(path);
    if (ready.ok()) ready = removed;
    if (!ready.ok()) return Finish(ToGrpc(ready, nullptr));
    SendChunk();
  }
  void SendChunk() {
    std::string& data = *chunk_.mutable_data();
    data.resize(kChunkBytes);
    const absl::StatusOr<size_t> got = file_->ReadAt(offset_bytes_, data.data(), data.size());
    if (!got.ok()) return Finish(ToGrpc(got.status(), nullptr));
    if (*got == 0) return Finish(grpc::Status::OK);
    data.resize(*got);
    offset_bytes_ += *got;
    StartWrite(&chunk_);
  }

  const BackupParts& parts_;
  std::unique_ptr<base::ReadableFile> file_;
  uint64_t offset_bytes_ = 0;
  farm::v1::BackupChunk chunk_;
};

// All of a backup but its blobs, which lie in the blob store already.
struct Restored {
  Snapshot snapshot;
  std::vector<farm::v1::ArchivedJob> archived;
};

absl::StatusOr<Restored> ReadBackup(base::Env& env, const std::string& path) {
  auto file = base::FramedFileReader::Open(env, path);
  if (!file.ok()) return file.status();
  const absl::Status damaged =
      absl::DataLossError(absl::StrCat(path, " is no whole backup: restore it again, into an empty folder."));
  Restored restored;
  for (;;) {
    const auto bytes = (*file)->Next();
    if (!bytes.ok()) return bytes.status();
    BackupPart part;
    if (!bytes->has_value() || !part.ParseFromString(**bytes)) return damaged;
    if ((*file)->messages() == 1 && !part.has_start()) return damaged;
    switch (part.part_case()) {
      case BackupPart::kStart:
        if (part.start().version() > kBackupVersion) {
          return absl::FailedPreconditionError(absl::StrCat(path, " was written by a newer storyfarm (",
                                                            part.start().software_version(),
                                                            "): install that one, or a newer one."));
        }
        restored.snapshot.sequence = part.start().sequence();
        break;
      case BackupPart::kState:
        restored.snapshot.pieces.push_back(std::move(*part.mutable_state()));
        break;
      case BackupPart::kArchived:
        restored.archived.push_back(std::move(*part.mutable_archived()));
        break;
      case BackupPart::kEnd:
        if (part.end().parts() + 1 != (*file)->messages()) return damaged;
        if (part.end().sha256() != (*file)->BeforeLast().Bytes()) return damaged;
        return restored;
      default:
        break;
    }
  }
}

absl::Status WriteParts(const BackupParts& parts, base::FramedFileWriter& file) {
  absl::StatusOr<Moment> moment = TakeMoment(*parts.loop);
  if (!moment.ok()) return moment.status();
  const auto write = [&file](const BackupPart& part) { return file.Append(part.SerializeAsString()); };
  BackupPart start;
  start.mutable_start()->set_version(kBackupVersion);
  start.mutable_start()->set_sequence(moment->sequence);
  start.mutable_start()->set_software_version(parts.software_version);
  start.mutable_start()->set_unix_ms(static_cast<uint64_t>(std::max<int64_t>(0, parts.env->NowUnixMs())));
  absl::Status status = write(start);
  for (size_t i = 0; status.ok() && i < moment->pieces.size(); ++i) {
    BackupPart piece;
    piece.set_state(std::move(moment->pieces[i]));
    status = write(piece);
  }
  for (size_t i = 0; status.ok() && i < moment->archived.size(); ++i) {
    absl::StatusOr<farm::v1::JobArchive> body = parts.loop->ReadArchive(moment->archived[i]);
    if (absl::IsNotFound(body.status())) continue;  // forgotten since that moment
    if (!body.ok()) return body.status();
    CollectBlobs(*body, &moment->blobs);
    BackupPart job;
    job.mutable_archived()->set_job_id(moment->archived[i]);
    *job.mutable_archived()->mutable_body() = *std::move(body);
    status = write(job);
  }
  BackupPart blobs;
  size_t left = moment->blobs.size();
  for (const auto& [digest, size_bytes] : moment->blobs) {
    farm::v1::BlobRef& blob = *blobs.mutable_blobs()->add_blobs();
    blob.set_digest(digest);
    blob.set_size_bytes(size_bytes);
    if (--left > 0 && static_cast<size_t>(blobs.blobs().blobs_size()) < kBlobsAPart) continue;
    if (status.ok()) status = write(blobs);
    blobs.Clear();
  }
  if (!status.ok()) return status;
  BackupPart end;
  end.mutable_end()->set_parts(file.messages());
  end.mutable_end()->set_sha256(file.Finish().Bytes());
  return write(end);
}

}  // namespace

absl::Status WriteBackup(const BackupParts& parts, const std::string& path) {
  auto file = base::FramedFileWriter::Create(*parts.env, path);
  if (!file.ok()) return file.status();
  const absl::Status written = WriteParts(parts, **file);
  return written.ok() ? (*file)->Close() : written;
}

grpc::ServerWriteReactor<farm::v1::BackupChunk>* StreamBackup(const BackupParts& parts) {
  return new BackupStream(parts);
}

absl::Status RemoveBrokenBackups(base::Env& env, const std::string& folder) {
  const absl::StatusOr<std::vector<std::string>> names = env.List(folder);
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    if (name.rfind(kBackupPrefix, 0) != 0) continue;
    if (absl::Status removed = env.Remove(base::JoinPath(folder, name)); !removed.ok()) return removed;
  }
  return absl::OkStatus();
}

absl::Status RestoreBackup(base::Env& env, const std::string& data_folder, Store& store) {
  const std::string path = base::JoinPath(data_folder, kRestoreFile);
  if (!env.Exists(path)) return absl::OkStatus();
  absl::StatusOr<Restored> restored = ReadBackup(env, path);
  if (!restored.ok()) return restored.status();
  const absl::StatusOr<Leadership> seen = store.Watch();
  if (!seen.ok()) return seen.status();
  if (seen->head != 0 && seen->head != restored->snapshot.sequence) {
    return absl::FailedPreconditionError(
        absl::StrCat("The store holds a farm already, and ", path,
                     " is the backup of one: give the coordinator an empty Redis, or remove that file."));
  }
  // The snapshot comes last: a start that dies before it finds an empty store again.
  if (seen->head == 0) {
    for (const farm::v1::ArchivedJob& job : restored->archived) {
      if (absl::Status put = store.PutArchive(job.job_id(), job.body()); !put.ok()) return put;
    }
    if (absl::Status saved = store.SaveSnapshot(restored->snapshot); !saved.ok()) return saved;
  }
  absl::Status removed = env.Remove(path);
  return removed.ok() ? env.SyncFolder(data_folder) : removed;
}

}  // namespace storyfarm::coordinator
