// How jobs leave the farm for good, and blobs after them.
//
//   ended, hot or archived ── ForgetJob, or kept long enough ─> JobForgotten ─> the store drops its archive
//                                                                    │                └─> ArchiveDropped
//                      its blobs are in no root any more ────────────┘
//   coordinator/rpc/collector.h finds such blobs ── CondemnBlobs ─> BlobsCondemned ─> unlink ─> BlobsDropped
#include "absl/strings/str_cat.h"
#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {

void Farm::Parts::Forget(const std::string& job_id) {
  Settle();  // the queue lets go of the job while it is still known
  farm::v1::Record record;
  record.mutable_job_forgotten()->set_job_id(job_id);
  Commit(std::move(record));
}

void Farm::Parts::On(const ForgetJob& input) {
  const Job* job = state.FindJob(input.job_id);
  if (job == nullptr && state.archived_ordinals().count(input.job_id) == 0) {
    return Answer(input.request, absl::NotFoundError(absl::StrCat("there is no job ", input.job_id)));
  }
  if (job != nullptr && state.live().count(job->ordinal()) > 0) {
    return Answer(input.request, absl::FailedPreconditionError(
                                     absl::StrCat("job ", input.job_id,
                                                  " has not ended: wait for its end, or stop it with storyctl "
                                                  "cancel ",
                                                  input.job_id, ", and remove it then")));
  }
  if (archives_offered.count(input.job_id) > 0) {
    return Answer(input.request,
                  absl::AbortedError(absl::StrCat("job ", input.job_id, " is being archived: ask again in a second")));
  }
  Forget(input.job_id);
  Answer(input.request, absl::OkStatus(), input.job_id);
}

void Farm::Parts::ForgetOld() {
  for (size_t i = 0; i < limits.forgets_a_tick && !state.finished().empty(); ++i) {
    const auto [finished_unix_ms, job_id] = *state.finished().begin();
    const bool many = limits.keep_finished_jobs > 0 && state.finished().size() > limits.keep_finished_jobs;
    const bool old = limits.keep_finished_ms > 0 && now.unix_ms > finished_unix_ms + limits.keep_finished_ms;
    if (!many && !old) return;
    if (archives_offered.count(job_id) > 0) return;  // next time
    Forget(job_id);
  }
}

void Farm::Parts::OfferDrops() {
  if (drops_offered.size() == state.forgotten().size()) return;
  for (const std::string& job_id : state.forgotten()) {
    if (drops_offered.insert(job_id).second) out.dropped_archives.push_back({job_id, state.record_count()});
  }
}

void Farm::Parts::On(const ArchiveRemoved& input) {
  if (drops_offered.erase(input.job_id) == 0) return;
  farm::v1::Record record;
  record.mutable_archive_dropped()->set_job_id(input.job_id);
  Commit(std::move(record));
}

void Farm::Parts::On(const CondemnBlobs& input) {
  farm::v1::Record record;
  record.mutable_blobs_condemned()->mutable_digests()->Assign(input.digests.begin(), input.digests.end());
  Commit(std::move(record));
  Answer(input.request, absl::OkStatus());
}

void Farm::Parts::On(const BlobsUnlinked& input) {
  farm::v1::Record record;
  record.mutable_blobs_dropped()->mutable_digests()->Assign(input.digests.begin(), input.digests.end());
  Commit(std::move(record));
  Answer(input.request, absl::OkStatus());
}

std::vector<std::string> Farm::CondemnedBlobs() const {
  const std::set<std::string>& condemned = parts_->state.condemned();
  return {condemned.begin(), condemned.end()};
}

}  // namespace storyfarm::coordinator
