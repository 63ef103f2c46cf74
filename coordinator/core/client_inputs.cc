#include "absl/strings/str_cat.h"
#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {

void Farm::Parts::On(const Started& input) {
  if (started) return;
  started = true;
  random = input.seed;
  farm::v1::Record record;
  record.mutable_taken_over()->set_incarnation(input.incarnation);
  record.mutable_taken_over()->set_unix_ms(now.unix_ms);
  Commit(std::move(record));
  if (!limits.notices) DropNotices("nobody is told of ends of jobs any more: the coordinator runs without --webhook");
  // What ran may still run: its workers get one lease's time to come back and say so.
  for (const auto& [token, grant] : state.grants()) {
    fleet.Renew(token, now.monotonic_ms + limits.lease_ms);
    fleet.leases[token].last_event_ms = now.monotonic_ms;
  }
  // A job whose last task ended, or whose pack came, just before the coordinator did.
  std::vector<std::string> live;
  for (const auto& [ordinal, id] : state.live()) live.push_back(id);
  for (const std::string& id : live) {
    touched_jobs.insert(id);
    TakePacks(id);
  }
}

void Farm::Parts::On(SubmitJob& input) {
  const farm::v1::JobSpec& spec = input.spec;
  const auto known = state.job_of_key().find(spec.idempotency_key());
  if (known != state.job_of_key().end()) {
    const std::string& id = known->second;
    const Job* hot = state.FindJob(id);
    const std::string& digest = hot != nullptr ? hot->head().request_digest()
                                               : state.archived().at(state.archived_ordinals().at(id)).request_digest;
    if (digest == spec.request_digest()) return Answer(input.request, absl::OkStatus(), id, true);
    return Answer(input.request,
                  absl::AlreadyExistsError(absl::StrCat("the key \"", known->first, "\" was used before, for job ", id,
                                                        ", with another story or other settings: use a new key")),
                  id);
  }
  const absl::Status valid = Job::Validate(spec, plan::PanelCount(spec.story()), limits);
  if (!valid.ok()) return Answer(input.request, valid);
  if (state.FindJob(spec.job_id()) != nullptr || state.archived_ordinals().count(spec.job_id()) > 0 ||
      state.forgotten().count(spec.job_id()) > 0) {
    return Answer(input.request, absl::AbortedError("the drawn job id is taken: submit again"));
  }
  if (state.live().size() >= limits.live_jobs) {
    return Answer(input.request,
                  absl::ResourceExhaustedError(absl::StrCat("the farm already has ", state.live().size(),
                                                            " unfinished jobs: wait for one to end, or cancel one")));
  }
  LosePacks(input.lost_packs);
  if (const absl::Status status = NeedNamedPacks(spec); !status.ok()) return Answer(input.request, status);
  const std::string id = spec.job_id();
  farm::v1::Record record;
  *record.mutable_job_accepted()->mutable_spec() = std::move(input.spec);
  Commit(std::move(record));
  TakePacks(id);
  changed.insert(id);
  schedule = true;
  Answer(input.request, absl::OkStatus(), id);
}

void Farm::Parts::On(const CancelJob& input) {
  if (const auto job = NeedLive(input.job_id); !job.ok()) return Answer(input.request, job.status());
  std::vector<std::pair<Token, std::string>> held;  // by whom
  for (const auto& [token, grant] : state.grants()) {
    if (grant.job_id == input.job_id) held.emplace_back(token, grant.node_id);
  }
  farm::v1::Record record;
  record.mutable_job_cancelled()->set_job_id(input.job_id);
  record.mutable_job_cancelled()->set_unix_ms(now.unix_ms);
  record.mutable_job_cancelled()->set_notice_due(NoticeWanted());
  Commit(std::move(record));
  for (const auto& [token, node_id] : held) {
    fleet.EndLease(token);
    touched_nodes.insert(node_id);
    const auto node = fleet.nodes.find(node_id);
    if (node == fleet.nodes.end()) continue;
    farm::v1::CoordinatorMessage message;
    *message.mutable_revoke()->mutable_token() = ToMessage(token);
    Send(node->second.session, std::move(message));
  }
  changed.insert(input.job_id);
  schedule = true;
  Answer(input.request, absl::OkStatus(), input.job_id);
}

void Farm::Parts::On(AddModel& input) {
  const std::string& name = input.model.name();
  if (name.empty() || name.size() > 64 || input.model.digest().size() != 32 || !input.model.has_profile()) {
    return Answer(input.request,
                  absl::InvalidArgumentError("a model needs a name of 1 to 64 bytes, a SHA-256 digest and a profile"));
  }
  const auto known = state.models().find(name);
  if (known != state.models().end()) {
    if (known->second.digest() == input.model.digest()) return Answer(input.request, absl::OkStatus(), "", true);
    return Answer(input.request, absl::AlreadyExistsError(absl::StrCat(
                                     "the name ", name, " stands for other files: give this model another name")));
  }
  if (state.models().size() >= limits.models) {
    return Answer(input.request,
                  absl::ResourceExhaustedError(absl::StrCat("the farm already knows ", limits.models, " models")));
  }
  farm::v1::Record record;
  *record.mutable_model_added()->mutable_model() = std::move(input.model);
  Commit(std::move(record));
  Answer(input.request, absl::OkStatus());
}

void Farm::Parts::On(const ArchiveStored& input) {
  archives_offered.erase(input.job_id);
  bool hot = false;
  for (const std::string& id : state.ended()) hot |= id == input.job_id;
  if (!hot) return;
  farm::v1::Record record;
  record.mutable_job_archived()->set_job_id(input.job_id);
  Commit(std::move(record));
}

}  // namespace storyfarm::coordinator
