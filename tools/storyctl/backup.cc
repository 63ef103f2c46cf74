// A farm's backup as a folder, and back into an empty data folder:
//
//   farm.backup   the durable state (proto/farm/v1/backup.proto); there once all of it and every blob are
//   blobs/        the blobs that it names, each under its SHA-256: a second backup brings only what is new
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "farm/v1/backup.pb.h"
#include "pipeline/base/file_store.h"
#include "pipeline/base/framed_file.h"
#include "pipeline/base/transfer.h"
#include "tools/storyctl/commands.h"
#include "tools/storyctl/farm_client.h"
#include "tools/storyctl/json.h"

namespace storyfarm::storyctl {
namespace {

using farm::v1::BackupPart;

constexpr char kStateName[] = "farm.backup";
constexpr char kStatePart[] = "farm.backup.part";
constexpr char kBlobsName[] = "blobs";
constexpr char kRestoreName[] = "restore.backup";  // what a coordinator looks for in its data folder
constexpr char kUpload[] = "backup";
constexpr size_t kPieceBytes = size_t{1} << 20;

struct Contents {
  std::vector<farm::v1::BlobRef> blobs;
  uint64_t blob_bytes = 0;
  uint64_t archived_jobs = 0;
};

// DATA_LOSS: not all of it is there.
absl::StatusOr<Contents> ReadState(const Context& context, const std::string& path) {
  auto file = base::FramedFileReader::Open(context.env, path);
  if (!file.ok()) return file.status();
  Contents contents;
  for (;;) {
    const auto bytes = (*file)->Next();
    if (!bytes.ok()) return bytes.status();
    BackupPart part;
    if (!bytes->has_value() || !part.ParseFromString(**bytes)) {
      return absl::DataLossError(absl::StrCat(path, " is not a whole backup: it ends before its end"));
    }
    if (part.has_archived()) ++contents.archived_jobs;
    for (const farm::v1::BlobRef& blob : part.blobs().blobs()) {
      contents.blobs.push_back(blob);
      contents.blob_bytes += blob.size_bytes();
    }
    if (!part.has_end()) continue;
    if (part.end().parts() + 1 != (*file)->messages() || part.end().sha256() != (*file)->BeforeLast().Bytes()) {
      return absl::DataLossError(absl::StrCat(path, " is damaged: its bytes are not those that were written"));
    }
    return contents;
  }
}

absl::Status BringState(const Context& context, FarmClient& farm, const std::string& path) {
  auto file = context.env.OpenForWriting(path, base::WriteMode::kTruncate);
  if (!file.ok()) return file.status();
  if (absl::Status came = farm.Backup([&file](const std::string& data) { return (*file)->Append(data); }); !came.ok()) {
    return came;
  }
  if (absl::Status synced = (*file)->Sync(); !synced.ok()) return synced;
  return (*file)->Close();
}

void ShowProgress(LiveLines& lines, const char* what, uint64_t through, uint64_t total) {
  lines.Show({absl::StrCat(what, " ", Bar(through, total, 32), " ", FormatBytes(through), " of ", FormatBytes(total))});
}

void Report(const Context& context, const std::string& folder, const Contents& contents, const std::string& next) {
  if (context.json) {
    context.console.out() << Print({{"folder", folder},
                                    {"blobs", contents.blobs.size()},
                                    {"bytes", contents.blob_bytes},
                                    {"archived_jobs", contents.archived_jobs}})
                          << std::endl;
    return;
  }
  context.console.out() << folder << ": " << contents.blobs.size() << " files, " << FormatBytes(contents.blob_bytes)
                        << std::endl;
  if (!next.empty()) context.console.Note(next);
}

// From one folder of blobs into another, verified on the way.
absl::Status CopyBlob(const Context& context, const std::string& from, const farm::v1::BlobRef& blob,
                      base::FileStore& store) {
  const auto digest = base::Digest::FromBytes(blob.digest());
  if (!digest.ok()) return digest.status();
  if (store.Has(*digest)) return absl::OkStatus();
  const std::string hex = digest->Hex();
  auto source = context.env.OpenForReading(base::JoinPath(base::JoinPath(from, hex.substr(0, 2)), hex));
  if (!source.ok()) {
    return absl::DataLossError(absl::StrCat("the backup lacks a file that it names: ", source.status().message()));
  }
  auto writer = store.OpenWriter(*digest, blob.size_bytes(), kUpload);
  if (!writer.ok()) return writer.status();
  std::string piece(kPieceBytes, '\0');
  for (;;) {
    const auto got = (*source)->ReadAt((*writer)->offset_bytes(), piece.data(), piece.size());
    if (!got.ok()) return got.status();
    if (*got == 0) break;
    if (absl::Status put = (*writer)->Append({piece.data(), *got}); !put.ok()) return put;
  }
  return (*writer)->Commit();
}

absl::Status CheckEmpty(const Context& context, const std::string& folder) {
  const auto names = context.env.List(folder);
  if (absl::IsNotFound(names.status())) return absl::OkStatus();
  if (!names.ok()) return names.status();
  // What an earlier try left that was broken off is gone on with.
  const bool ours =
      std::all_of(names->begin(), names->end(), [](const std::string& name) { return name == kBlobsName; });
  if (ours) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(folder,
                   " is not empty: a backup is restored into a data folder of its own. Name one that is not "
                   "there yet; nothing was changed"));
}

}  // namespace

Outcome Backup(const Context& context, const std::string& folder) {
  const auto target = FarmTarget(context);
  if (!target.ok()) return target.status();
  FarmClient farm(*target);
  if (absl::Status made = context.env.CreateFolders(folder); !made.ok()) return made;
  auto lock = context.env.LockFile(base::JoinPath(folder, ".lock"));
  if (absl::IsAlreadyExists(lock.status())) {
    return absl::FailedPreconditionError(absl::StrCat("another storyctl writes a backup into ", folder));
  }
  if (!lock.ok()) return lock.status();
  const std::string part = base::JoinPath(folder, kStatePart);
  if (absl::Status came = BringState(context, farm, part); !came.ok()) return came;
  const auto contents = ReadState(context, part);
  if (!contents.ok()) return contents.status();
  auto store = base::FileStore::Open(context.env, base::JoinPath(folder, kBlobsName));
  if (!store.ok()) return store.status();
  LiveLines lines(context.console);
  uint64_t through = 0;
  for (const farm::v1::BlobRef& blob : contents->blobs) {
    ShowProgress(lines, "copying", through, contents->blob_bytes);
    const auto pin = base::DownloadTo(farm.blobs(), **store, blob);
    if (!pin.ok()) {
      lines.Clear();
      return pin.status();
    }
    through += blob.size_bytes();
  }
  lines.Clear();
  // Only now is it a backup; the one before it counted until here.
  absl::Status named = context.env.Rename(part, base::JoinPath(folder, kStateName));
  if (named.ok()) named = context.env.SyncFolder(folder);
  if (!named.ok()) return named;
  Report(context, folder, *contents, "");
  return ExitCode::kOk;
}

Outcome Restore(const Context& context, const RestoreOptions& options) {
  const std::string state = base::JoinPath(options.backup, kStateName);
  if (!context.env.Exists(state)) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.backup, " holds no whole backup: there is no ", kStateName, " in it"));
  }
  const auto contents = ReadState(context, state);
  if (!contents.ok()) return contents.status();
  if (absl::Status empty = CheckEmpty(context, options.data); !empty.ok()) return empty;
  if (absl::Status made = context.env.CreateFolders(options.data); !made.ok()) return made;
  auto store = base::FileStore::Open(context.env, base::JoinPath(options.data, kBlobsName));
  if (!store.ok()) return store.status();
  LiveLines lines(context.console);
  uint64_t through = 0;
  for (const farm::v1::BlobRef& blob : contents->blobs) {
    ShowProgress(lines, "restoring", through, contents->blob_bytes);
    if (absl::Status copied = CopyBlob(context, base::JoinPath(options.backup, kBlobsName), blob, **store);
        !copied.ok()) {
      lines.Clear();
      return copied;
    }
    through += blob.size_bytes();
  }
  lines.Clear();
  // Last: a coordinator that is started before finds no farm, rather than half of one.
  const std::string part = base::JoinPath(options.data, absl::StrCat(kRestoreName, ".part"));
  absl::Status done = context.env.CopyFile(state, part);
  if (done.ok()) done = context.env.Rename(part, base::JoinPath(options.data, kRestoreName));
  if (done.ok()) done = context.env.SyncFolder(options.data);
  if (!done.ok()) return done;
  Report(context, options.data, *contents, absl::StrCat("start it with: storyfarm-coordinator --data ", options.data));
  return ExitCode::kOk;
}

}  // namespace storyfarm::storyctl
