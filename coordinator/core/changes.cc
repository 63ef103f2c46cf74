// What changes from outside while the farm works: a job's place in the queue, machines taken out of the farm and given
// back, whether anything is granted at all.
#include "absl/strings/str_cat.h"
#include "coordinator/core/parts.h"

namespace storyfarm::coordinator {

absl::StatusOr<const Job*> Farm::Parts::NeedLive(const std::string& job_id) const {
  const Job* job = state.FindJob(job_id);
  if (job == nullptr) {
    if (state.archived_ordinals().count(job_id) > 0) {
      return absl::FailedPreconditionError(absl::StrCat("job ", job_id, " has already ended"));
    }
    return absl::NotFoundError(absl::StrCat("there is no job ", job_id));
  }
  if (state.live().count(job->ordinal()) == 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "job ", job_id, " has already ended (", job->state == farm::v1::JOB_CANCELLED ? "cancelled" : "finished", ")"));
  }
  return job;
}

void Farm::Parts::AskBackUnstarted(const Token& token) {
  const LiveGrant& grant = state.grants().at(token);
  std::vector<uint32_t> unstarted;
  for (auto number = grant.numbers.rbegin(); number != grant.numbers.rend(); ++number) {
    if (fleet.leases[token].started.count(*number) == 0) unstarted.push_back(*number);
  }
  AskBack(token, unstarted);
}

void Farm::Parts::On(const ChangeJob& input) {
  const auto job = NeedLive(input.job_id);
  if (!job.ok()) return Answer(input.request, job.status());
  const uint32_t priority = input.priority.value_or((*job)->priority);
  const bool paused = input.paused.value_or((*job)->paused);
  if (priority < 1 || priority > kMostPriority) {
    return Answer(input.request, absl::InvalidArgumentError(
                                     absl::StrCat("a priority is 1 to ", kMostPriority, "; ", priority, " is none")));
  }
  const bool stops = paused && !(*job)->paused;
  if (priority != (*job)->priority || paused != (*job)->paused) {
    farm::v1::Record record;
    record.mutable_job_changed()->set_job_id(input.job_id);
    record.mutable_job_changed()->set_paused(paused);
    record.mutable_job_changed()->set_priority(priority);
    Commit(std::move(record));
    changed.insert(input.job_id);
    schedule = true;
  }
  if (stops) {
    // What runs goes on to its end; what waits on devices comes back.
    for (const auto& [token, grant] : state.grants()) {
      if (grant.job_id == input.job_id) AskBackUnstarted(token);
    }
  }
  Answer(input.request, absl::OkStatus(), input.job_id);
}

absl::StatusOr<std::string> Farm::Parts::FindNode(const std::string& name_or_id) const {
  if (fleet.nodes.count(name_or_id) > 0 || state.drained().count(name_or_id) > 0 ||
      state.LimitsOf(name_or_id) != nullptr) {
    return name_or_id;
  }
  std::string found;
  for (const auto& [id, node] : fleet.nodes) {
    if (node.name != name_or_id) continue;
    if (!found.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("several nodes have the name ", name_or_id,
                                                     "; say which by its id, such as ", found,
                                                     ": storyctl nodes --json lists them"));
    }
    found = id;
  }
  if (found.empty()) {
    const farm::v1::Member* member = state.roster().Find(farm::v1::MEMBER_WORKER, name_or_id);
    if (member != nullptr) return member->node_id();  // away since the coordinator started
    return absl::NotFoundError(absl::StrCat("there is no node ", name_or_id));
  }
  return found;
}

void Farm::Parts::On(const DrainNode& input) {
  const absl::StatusOr<std::string> id = FindNode(input.node);
  if (!id.ok()) return Answer(input.request, id.status());
  const bool known = state.drained().count(*id) > 0;
  if (input.drained && !known && state.drained().size() >= limits.nodes) {
    return Answer(input.request, absl::ResourceExhaustedError(absl::StrCat(
                                     limits.nodes, " nodes are drained already: give some back to the farm")));
  }
  if (input.drained != known) {
    farm::v1::Record record;
    record.mutable_node_drained()->set_node_id(*id);
    record.mutable_node_drained()->set_drained(input.drained);
    Commit(std::move(record));
    schedule = true;
  }
  if (input.drained) TakeFrom(*id, input.at_once);
  Answer(input.request, absl::OkStatus(), *id);
}

void Farm::Parts::On(const HoldDispatch& input) {
  dispatch_held = input.why;
  full_round_ms = 0;  // all jobs are asked once it goes on
  for (const auto& [ordinal, id] : state.live()) changed.insert(id);
  schedule = true;
}

void Farm::Parts::TakeFrom(const std::string& node_id, bool at_once) {
  const std::set<Token>* held = state.GrantsOf(node_id);
  const auto node = fleet.nodes.find(node_id);
  if (held == nullptr || node == fleet.nodes.end()) return;
  const std::set<Token> tokens = *held;
  farm::v1::Failure why;
  why.set_kind(farm::v1::PREEMPTED);
  why.set_message(absl::StrCat(node->second.name, " was taken out of the farm while it worked on it"));
  for (const Token& token : tokens) {
    if (!at_once) {
      AskBackUnstarted(token);
      continue;
    }
    const LiveGrant grant = state.grants().at(token);
    farm::v1::CoordinatorMessage message;
    *message.mutable_revoke()->mutable_token() = ToMessage(token);
    for (uint32_t number : grant.numbers) {
      GiveBack(token, MakeTask(grant.job_id, grant.kind, number), why, false);
    }
    Send(node->second.session, std::move(message));
  }
  schedule = true;
}

}  // namespace storyfarm::coordinator
