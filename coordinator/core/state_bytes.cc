#include "absl/strings/str_cat.h"
#include "coordinator/core/state.h"

namespace storyfarm::coordinator {
namespace {

// Raised whenever the form changes. A coordinator reads its own version and says so of any other.
constexpr uint64_t kStateVersion = 8;

}  // namespace

void State::Write(ByteWriter& out) const {
  out.Number(kStateVersion);
  out.Number(record_count_);
  out.Number(incarnation_);
  out.Number(next_number_);
  out.Number(next_ordinal_);
  out.Number(models_.size());
  for (const auto& [name, model] : models_) out.String(model.SerializeAsString());
  out.Number(needs_.size());
  for (const auto& [key, need] : needs_) {
    out.String(key.first);
    out.Number(key.second);
    out.Number(need.planned_bytes);
    out.Number(need.needed_bytes);
  }
  out.Number(jobs_.size());
  for (const auto& [id, job] : jobs_) job.Write(out);
  out.Number(ended_.size());
  for (const std::string& id : ended_) out.String(id);
  out.Number(archived_.size());
  for (const auto& [ordinal, job] : archived_) {
    out.Number(ordinal);
    out.String(job.job_id);
    out.String(job.idempotency_key);
    out.String(job.request_digest);
    out.Number(job.finished_unix_ms);
  }
  out.Number(forgotten_.size());
  for (const std::string& id : forgotten_) out.String(id);
  out.Number(condemned_.size());
  for (const std::string& digest : condemned_) out.String(digest);
  out.Number(drained_.size());
  for (const std::string& id : drained_) out.String(id);
  out.Number(node_limits_.size());
  for (const auto& [id, limits] : node_limits_) {
    out.String(id);
    out.String(limits.SerializeAsString());
  }
  out.Number(notices_.size());
  for (const auto& [id, notice] : notices_) out.String(notice.SerializeAsString());
  packs_.Write(out);
  roster_.Write(out);
  texts_.Write(out);
  out.Number(grants_.size());
  for (const auto& [token, grant] : grants_) {
    out.Number(token.incarnation);
    out.Number(token.number);
    out.String(grant.job_id);
    out.Number(grant.kind);
    out.String(grant.node_id);
    out.Number(grant.device);
    out.Number(grant.planned_bytes);
    out.Number(grant.numbers.size());
    for (uint32_t number : grant.numbers) out.Number(number);
  }
}

bool State::ReadGrants(ByteReader& in) {
  for (uint64_t left = in.Count(); left > 0; --left) {
    Token token;
    token.incarnation = in.Number();
    token.number = in.Number();
    LiveGrant grant;
    grant.job_id = in.String();
    grant.kind = static_cast<farm::v1::TaskKind>(in.Number());
    grant.node_id = in.String();
    grant.device = static_cast<uint32_t>(in.Number());
    grant.planned_bytes = in.Number();
    for (uint64_t count = in.Count(); count > 0; --count) grant.numbers.insert(static_cast<uint32_t>(in.Number()));
    Job* job = LiveJob(grant.job_id);
    if (job == nullptr) return false;
    for (uint32_t number : grant.numbers) {
      const Slot* slot = job->slot(grant.kind, number);
      if (slot == nullptr || slot->state != farm::v1::TASK_GRANTED || slot->token != token) return false;
    }
    AddGrant(*job, token, std::move(grant));
  }
  return in.ok();
}

absl::Status State::Read(ByteReader& in) {
  const absl::Status damaged = absl::DataLossError("the snapshot of the farm's state is damaged");
  if (const uint64_t version = in.Number(); in.ok() && version != kStateVersion) {
    return absl::DataLossError(absl::StrCat("the snapshot of the farm's state has version ", version,
                                            ", this coordinator reads version ", kStateVersion,
                                            ": run the version that wrote it"));
  }
  record_count_ = in.Number();
  incarnation_ = in.Number();
  next_number_ = in.Number();
  next_ordinal_ = in.Number();
  for (uint64_t left = in.Count(); left > 0; --left) {
    farm::v1::ModelManifest model;
    if (!model.ParseFromString(in.String())) return damaged;
    models_[model.name()] = std::move(model);
  }
  for (uint64_t left = in.Count(); left > 0; --left) {
    std::string digest = in.String();
    plan::LearnedNeed& need = needs_[{std::move(digest), static_cast<int>(in.Number())}];
    need.planned_bytes = in.Number();
    need.needed_bytes = in.Number();
  }
  for (uint64_t left = in.Count(); left > 0; --left) {
    std::optional<Job> job = Job::Read(in, shelf_, &panels_);
    if (!job.has_value()) return damaged;
    const std::string id = job->head().job_id();
    live_[job->ordinal()] = id;
    job_of_key_[job->head().idempotency_key()] = id;
    jobs_.emplace(id, *std::move(job));
  }
  for (uint64_t left = in.Count(); left > 0; --left) {
    ended_.push_back(in.String());
    const Job* job = FindJob(ended_.back());
    if (job == nullptr) return damaged;
    live_.erase(job->ordinal());
    finished_.emplace(job->finished_unix_ms, ended_.back());
  }
  for (uint64_t left = in.Count(); left > 0; --left) {
    const uint64_t ordinal = in.Number();
    ArchivedJob& job = archived_[ordinal];
    job.job_id = in.String();
    job.idempotency_key = in.String();
    job.request_digest = in.String();
    job.finished_unix_ms = in.Number();
    finished_.emplace(job.finished_unix_ms, job.job_id);
    archived_ordinals_[job.job_id] = ordinal;
    job_of_key_[job.idempotency_key] = job.job_id;
  }
  for (uint64_t left = in.Count(); left > 0; --left) forgotten_.insert(in.String());
  for (uint64_t left = in.Count(); left > 0; --left) condemned_.insert(in.String());
  for (uint64_t left = in.Count(); left > 0; --left) drained_.insert(in.String());
  for (uint64_t left = in.Count(); left > 0; --left) {
    farm::v1::WorkerLimits& limits = node_limits_[in.String()];
    if (!limits.ParseFromString(in.String())) return damaged;
  }
  for (uint64_t left = in.Count(); left > 0; --left) {
    farm::v1::JobNotice notice;
    if (!notice.ParseFromString(in.String())) return damaged;
    notices_[notice.job_id()] = std::move(notice);
  }
  if (!packs_.Read(in) || !roster_.Read(in) || !texts_.Read(in)) return damaged;
  for (const auto& [ordinal, id] : live_) AddIdentities(jobs_.at(id));
  if (!ReadGrants(in)) return damaged;
  if (!in.ok() || !in.at_end()) return damaged;
  return absl::OkStatus();
}

}  // namespace storyfarm::coordinator
