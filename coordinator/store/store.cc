#include "coordinator/store/store.h"

namespace storyfarm::coordinator {

absl::Status Store::SaveSnapshot(const Snapshot& snapshot) {
  absl::Status status = BeginSnapshot(snapshot.sequence);
  if (absl::IsAlreadyExists(status)) return absl::OkStatus();
  for (size_t i = 0; status.ok() && i < snapshot.pieces.size(); ++i) {
    status = PutSnapshotPiece(snapshot.sequence, i, snapshot.pieces[i]);
  }
  return status.ok() ? SwitchSnapshot(snapshot.sequence, snapshot.pieces.size()) : status;
}

}  // namespace storyfarm::coordinator
