// A farm's durable state as a file, and back. The form: proto/farm/v1/backup.proto.
//
//   storyctl backup ──Backup──> fold's Farm (what is durable) ─┬─ state, archived jobs ─> file ─> stream
//                                                              └─ blobs that these name: read one by one, as ever
//   storyctl restore: blobs and kRestoreFile into an empty data folder; the next start reads that into the empty store
#ifndef STORYFARM_COORDINATOR_RPC_BACKUP_H_
#define STORYFARM_COORDINATOR_RPC_BACKUP_H_

#include <grpcpp/support/server_callback.h>

#include <string>

#include "absl/status/status.h"
#include "coordinator/rpc/loop.h"
#include "coordinator/rpc/work_pool.h"
#include "coordinator/store/store.h"
#include "farm/v1/client.pb.h"
#include "pipeline/base/env.h"

namespace storyfarm::coordinator {

// In the data folder: a backup that waits to be read in.
inline constexpr char kRestoreFile[] = "restore.backup";
// Of the form.
inline constexpr uint32_t kBackupVersion = 1;

struct BackupParts {
  Loop* loop = nullptr;
  WorkPool* pool = nullptr;
  base::Env* env = nullptr;
  std::string folder;  // for the file while it is written and sent
  std::string software_version;
};

// Writes the state to `path`. Blocks until everything is read; not from the loop's thread.
absl::Status WriteBackup(const BackupParts& parts, const std::string& path);

// Streams a backup. `parts` outlives the call.
grpc::ServerWriteReactor<farm::v1::BackupChunk>* StreamBackup(const BackupParts& parts);

// Removes what a process that was killed midway left of its own.
absl::Status RemoveBrokenBackups(base::Env& env, const std::string& folder);

// Reads the file in the data folder, where there is one, into a store that was taken over, and removes it. Nothing is
// changed where it fails: FAILED_PRECONDITION: the store holds a farm already, or a newer version wrote the file.
// DATA_LOSS: the file is damaged.
absl::Status RestoreBackup(base::Env& env, const std::string& data_folder, Store& store);

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_RPC_BACKUP_H_
