// The fold of what makes the farm forget: jobs, archives, blobs.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "coordinator/core/state.h"

namespace storyfarm::coordinator {

void State::ForgetArchived(uint64_t ordinal) {
  const auto archived = archived_.find(ordinal);
  const ArchivedJob& job = archived->second;
  job_of_key_.erase(job.idempotency_key);
  archived_ordinals_.erase(job.job_id);
  finished_.erase({job.finished_unix_ms, job.job_id});
  forgotten_.insert(job.job_id);
  archived_.erase(archived);
}

absl::Status State::Forget(const farm::v1::JobForgotten& fact) {
  if (const auto archived = archived_ordinals_.find(fact.job_id()); archived != archived_ordinals_.end()) {
    ForgetArchived(archived->second);
    return absl::OkStatus();
  }
  const auto ended = std::find(ended_.begin(), ended_.end(), fact.job_id());
  if (ended == ended_.end()) {
    return absl::DataLossError(absl::StrCat("job ", fact.job_id(), " can't be forgotten: it has not ended"));
  }
  const auto job = jobs_.find(fact.job_id());
  job_of_key_.erase(job->second.head().idempotency_key());
  finished_.erase({job->second.finished_unix_ms, fact.job_id()});
  // Its archive may have been written just before a restart that did not know of it any more.
  forgotten_.insert(fact.job_id());
  ended_.erase(ended);
  jobs_.erase(job);
  return absl::OkStatus();
}

absl::Status State::DropArchive(const farm::v1::ArchiveDropped& fact) {
  if (forgotten_.erase(fact.job_id()) == 0) {
    return absl::DataLossError(absl::StrCat("the archive of job ", fact.job_id(), " was dropped, but is wanted"));
  }
  return absl::OkStatus();
}

absl::Status State::Condemn(const farm::v1::BlobsCondemned& fact) {
  condemned_.insert(fact.digests().begin(), fact.digests().end());
  return absl::OkStatus();
}

absl::Status State::DropBlobs(const farm::v1::BlobsDropped& fact) {
  for (const std::string& digest : fact.digests()) condemned_.erase(digest);
  return absl::OkStatus();
}

}  // namespace storyfarm::coordinator
