#include "coordinator/rpc/job_reader.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace storyfarm::coordinator {

using farm::v1::JobArchive;
using farm::v1::JobStatus;
using farm::v1::ListJobsResponse;

void JobReader::Read(const std::string& job_id, Parts parts, std::function<void(absl::StatusOr<JobArchive>)> done) {
  struct Found {
    JobPlace place = JobPlace::kUnknown;
    absl::StatusOr<JobArchive> body = JobArchive();
    std::shared_ptr<const PackedSpec> spec;  // where it is asked for
  };
  const auto found = std::make_shared<Found>();
  const auto look = [found, job_id, parts](const Farm& farm, const Time& now) {
    found->place = farm.FindJob(job_id);
    if (found->place != JobPlace::kHot) return;
    absl::StatusOr<JobStatus> status = farm.GetJob(now, job_id, parts.tasks);
    if (!status.ok()) {
      found->body = status.status();
      return;
    }
    *found->body->mutable_status() = *std::move(status);
    if (parts.spec) found->spec = farm.FindSpec(job_id);
  };
  loop_->Look(look, [this, found, job_id, parts, done = std::move(done)](const absl::Status& status) {
    if (!status.ok()) return done(status);
    if (found->place == JobPlace::kHot && found->spec == nullptr) return done(std::move(found->body));
    if (found->place == JobPlace::kHot) {
      // Unpacking a full story would hold the loop up for tens of milliseconds.
      return pool_->Post([found, done](const absl::Status& posted) {
        if (!posted.ok()) return done(posted);
        *found->body->mutable_spec() = found->spec->Unpack();
        done(std::move(found->body));
      });
    }
    if (found->place == JobPlace::kUnknown) {
      return done(absl::NotFoundError(absl::StrCat("There is no job \"", job_id, "\".")));
    }
    loop_->ReadArchive(job_id, [parts, done](absl::StatusOr<JobArchive> body) {
      if (body.ok() && !parts.tasks) body->mutable_status()->clear_tasks();
      if (body.ok() && !parts.spec) body->clear_spec();
      done(std::move(body));
    });
  });
}

struct JobReader::Listing {
  ListJobsResponse response;
  std::vector<bool> archived;  // by position in response.jobs: only its id is there yet
  std::function<void(absl::StatusOr<ListJobsResponse>)> done;
};

void JobReader::List(const farm::v1::ListJobsRequest& request,
                     std::function<void(absl::StatusOr<ListJobsResponse>)> done) {
  if (request.page_size() > kMostPageSize) {
    return done(absl::InvalidArgumentError(
        absl::StrCat("A page of ", request.page_size(), " jobs is too long; at most ", kMostPageSize, " are given.")));
  }
  const uint32_t page_size = request.page_size() == 0 ? kPageSize : request.page_size();
  const auto listing = std::make_shared<Listing>();
  listing->done = std::move(done);
  const auto seen = std::make_shared<absl::Status>();
  const auto look = [listing, seen, page_size, token = request.page_token()](const Farm& farm, const Time& now) {
    const auto jobs = farm.ListJobs(page_size, token, listing->response.mutable_next_page_token());
    if (!jobs.ok()) {
      *seen = jobs.status();
      return;
    }
    for (const JobListing& job : *jobs) {
      JobStatus* status = listing->response.add_jobs();
      absl::StatusOr<JobStatus> hot = absl::NotFoundError("archived");
      if (!job.archived) hot = farm.GetJob(now, job.job_id, false);
      if (hot.ok()) *status = *std::move(hot);
      status->set_job_id(job.job_id);
      listing->archived.push_back(!hot.ok());
    }
  };
  loop_->Look(look, [this, listing, seen](const absl::Status& status) {
    if (!status.ok()) return listing->done(status);
    if (!seen->ok()) return listing->done(*seen);
    FillIn(listing, 0);
  });
}

void JobReader::FillIn(const std::shared_ptr<Listing>& listing, int position) {
  for (; position < listing->response.jobs_size(); ++position) {
    if (!listing->archived[static_cast<size_t>(position)]) continue;
    JobStatus* status = listing->response.mutable_jobs(position);
    if (!FindAtHand(status->job_id(), status)) break;
  }
  if (position == listing->response.jobs_size()) return listing->done(std::move(listing->response));
  const std::string job_id = listing->response.jobs(position).job_id();
  loop_->ReadArchive(job_id, [this, listing, position](absl::StatusOr<JobArchive> body) {
    if (!body.ok()) return listing->done(body.status());
    body->mutable_status()->clear_tasks();
    KeepAtHand(body->status());
    *listing->response.mutable_jobs(position) = std::move(*body->mutable_status());
    FillIn(listing, position + 1);
  });
}

bool JobReader::FindAtHand(const std::string& job_id, JobStatus* status) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = at_hand_.find(job_id);
  if (found == at_hand_.end()) return false;
  *status = found->second;
  return true;
}

void JobReader::KeepAtHand(const JobStatus& status) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (at_hand_.size() >= kArchivedAtHand) at_hand_.clear();
  at_hand_[status.job_id()] = status;
}

}  // namespace storyfarm::coordinator
