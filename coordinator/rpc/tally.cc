#include "coordinator/rpc/tally.h"

#include <algorithm>

namespace storyfarm::coordinator {
namespace {

using farm::v1::Distribution;
using farm::v1::Record;

// Pages take tenths of a second, a picture on a slow machine minutes, a job's last chapter a night.
constexpr double kWorkBounds[] = {0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000};
constexpr double kJobBounds[] = {1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600};
// An fsync takes one millisecond on a good disk and a hundred on a bad one.
constexpr double kCommitBounds[] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30};
// A plan promises that the peak lies within a tenth below it and never above.
constexpr double kPeakBounds[] = {0.25, 0.5, 0.75, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2};

template <size_t kCount>
void Note(const double (&bounds)[kCount], double value, Distribution* distribution) {
  if (distribution->counts().empty()) {
    distribution->mutable_bounds()->Add(std::begin(bounds), std::end(bounds));
    distribution->mutable_counts()->Resize(static_cast<int>(kCount) + 1, 0);
  }
  const auto bucket = std::lower_bound(std::begin(bounds), std::end(bounds), value) - std::begin(bounds);
  distribution->set_counts(static_cast<int>(bucket), distribution->counts(static_cast<int>(bucket)) + 1);
  distribution->set_sum(distribution->sum() + value);
}

double Seconds(int64_t ms) { return static_cast<double>(ms) / 1000; }

// Keeps the newest `most` of what is in `order` in `by_key`.
template <typename Key, typename Value>
void Bound(size_t most, std::deque<Key>& order, std::map<Key, Value>& by_key) {
  for (; order.size() > most; order.pop_front()) by_key.erase(order.front());
}

}  // namespace

Tally::Tally(base::Env* env) : env_(env), began_ms_(env->MonotonicMs()) {}

void Tally::Count(const farm::v1::RecordBatch& batch) {
  const int64_t now_ms = env_->MonotonicMs();
  const std::lock_guard<std::mutex> lock(mutex_);
  done_.set_records(done_.records() + static_cast<uint64_t>(batch.records_size()));
  for (const Record& record : batch.records()) CountRecord(record, now_ms);
}

void Tally::Committed(int64_t ms) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Note(kCommitBounds, Seconds(ms), done_.mutable_commit_seconds());
}

void Tally::CountRecord(const Record& record, int64_t now_ms) {
  switch (record.fact_case()) {
    case Record::kJobAccepted: {
      done_.set_jobs_accepted(done_.jobs_accepted() + 1);
      const std::string& job_id = record.job_accepted().spec().job_id();
      jobs_[job_id].accepted_ms = now_ms;
      jobs_in_order_.push_back(job_id);
      return Bound(kTalliedJobs, jobs_in_order_, jobs_);
    }
    case Record::kGranted:
      return CountGrant(record.granted(), now_ms);
    case Record::kFrameFinished: {
      const farm::v1::FrameFinished& fact = record.frame_finished();
      return CountResult(farm::v1::TASK_FRAME, fact.token(), fact.result().render_ms(), fact.result().peak_bytes(),
                         now_ms);
    }
    case Record::kIdentityFinished: {
      const farm::v1::IdentityFinished& fact = record.identity_finished();
      return CountResult(farm::v1::TASK_IDENTITY, fact.token(), fact.result().render_ms(), fact.result().peak_bytes(),
                         now_ms);
    }
    case Record::kPageFinished: {
      const farm::v1::PageFinished& fact = record.page_finished();
      return CountResult(farm::v1::TASK_PAGE, fact.token(), fact.result().compose_ms(), 0, now_ms);
    }
    case Record::kTaskReturned: {
      const farm::v1::TaskReturned& fact = record.task_returned();
      ++attempts_[{fact.task().kind(), fact.why().kind()}];
      TakeFrom(fact.token());
      return;
    }
    case Record::kTaskFailed:
      return done_.set_tasks_failed(done_.tasks_failed() + 1);
    case Record::kJobFinished:
      return CountJobEnd(record.job_finished().job_id(), record.job_finished().state(), now_ms);
    case Record::kJobCancelled:
      return CountJobEnd(record.job_cancelled().job_id(), farm::v1::JOB_CANCELLED, now_ms);
    case Record::kPackUsed:
      return done_.set_packs_hit(done_.packs_hit() + 1);
    case Record::kPackStored:
      return done_.set_packs_stored(done_.packs_stored() + 1);
    case Record::kPackLost:
      return done_.set_packs_lost(done_.packs_lost() + 1);
    default:
      return;
  }
}

void Tally::CountGrant(const farm::v1::Granted& fact, int64_t now_ms) {
  done_.set_tasks_granted(done_.tasks_granted() + static_cast<uint64_t>(fact.numbers_size()));
  const Token token(fact.token().incarnation(), fact.token().number());
  // A task that came back may be granted to the same node again under the token that it had.
  const auto [grant, first] = grants_.try_emplace(token);
  grant->second.job_id = fact.job_id();
  grant->second.granted_ms = now_ms;
  grant->second.planned_bytes = fact.planned_bytes();
  grant->second.tasks += static_cast<uint32_t>(fact.numbers_size());
  if (first) grants_in_order_.push_back(token);
  Bound(kTalliedGrants, grants_in_order_, grants_);
  const auto job = jobs_.find(fact.job_id());
  if (job == jobs_.end() || job->second.granted) return;
  job->second.granted = true;
  Note(kJobBounds, Seconds(now_ms - job->second.accepted_ms), done_.mutable_job_wait_seconds());
}

Tally::Grant Tally::TakeFrom(const farm::v1::FencingToken& token) {
  const auto found = grants_.find({token.incarnation(), token.number()});
  if (found == grants_.end()) return {};
  const Grant grant = found->second;
  if (--found->second.tasks == 0) grants_.erase(found);
  return grant;
}

void Tally::CountResult(farm::v1::TaskKind kind, const farm::v1::FencingToken& token, uint64_t work_ms,
                        uint64_t peak_bytes, int64_t now_ms) {
  ++attempts_[{kind, farm::v1::FAILURE_KIND_UNSPECIFIED}];
  Note(kWorkBounds, Seconds(static_cast<int64_t>(work_ms)), &work_seconds_[kind]);
  const Grant grant = TakeFrom(token);
  if (grant.tasks == 0) return;  // granted by the coordinator before this one
  Note(kWorkBounds, Seconds(now_ms - grant.granted_ms), &attempt_seconds_[kind]);
  if (grant.planned_bytes > 0 && peak_bytes > 0) {
    Note(kPeakBounds, static_cast<double>(peak_bytes) / static_cast<double>(grant.planned_bytes),
         done_.mutable_peak_over_plan());
  }
}

void Tally::CountJobEnd(const std::string& job_id, farm::v1::JobState state, int64_t now_ms) {
  ++jobs_ended_[state];
  // Only a cancelled job leaves some behind.
  if (state == farm::v1::JOB_CANCELLED) std::erase_if(grants_, [&](const auto& each) { return each.second.job_id == job_id; });
  const auto job = jobs_.find(job_id);
  if (job == jobs_.end()) return;
  if (state != farm::v1::JOB_CANCELLED) {
    Note(kJobBounds, Seconds(now_ms - job->second.accepted_ms), done_.mutable_job_seconds());
  }
  jobs_.erase(job);
}

void Tally::AddTo(farm::v1::Figures* figures) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  figures->MergeFrom(done_);
  figures->set_leading_ms(static_cast<uint64_t>(env_->MonotonicMs() - began_ms_));
  for (const auto& [state, count] : jobs_ended_) {
    farm::v1::JobCount& entry = *figures->add_jobs_ended();
    entry.set_state(state);
    entry.set_jobs(count);
  }
  for (const auto& [key, count] : attempts_) {
    farm::v1::AttemptCount& entry = *figures->add_attempts();
    entry.set_kind(key.first);
    entry.set_failure(key.second);
    entry.set_attempts(count);
  }
  const auto add = [](const auto& by_kind, auto* entries) {
    for (const auto& [kind, distribution] : by_kind) {
      farm::v1::KindDistribution& entry = *entries->Add();
      entry.set_kind(kind);
      *entry.mutable_distribution() = distribution;
    }
  };
  add(work_seconds_, figures->mutable_work_seconds());
  add(attempt_seconds_, figures->mutable_attempt_seconds());
}

}  // namespace storyfarm::coordinator
